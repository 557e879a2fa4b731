//! Says whether a plan admits what is asked for, and which other plan would.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool writes on the terminal"
)]

use std::error::Error;
use std::process::ExitCode;

use rawdrive_plans::{Catalogue, Decision, Metric, Plan, decide, level};

/// `contracts=2+1`: so much is used, so much more is asked for.
fn asked(text: &str) -> Result<(&str, u64, u64), Box<dyn Error>> {
    let shape = || format!("`{text}`: expected metric=used+requested, such as contracts=2+1");
    let (metric, amounts) = text.split_once('=').ok_or_else(shape)?;
    let (used, requested) = amounts.split_once('+').ok_or_else(shape)?;
    let number = |text: &str| text.parse().map_err(|_| shape());
    Ok((metric, number(used)?, number(requested)?))
}

fn admits(plan: &Plan, metric: &Metric, used: u64, requested: u64) -> bool {
    decide(used, requested, plan.allowance(metric)) == Decision::Allow
}

/// Whether everything fits.
fn run(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let [file, plan, requests @ ..] = arguments else {
        return Err("usage: quota-cli plans.toml plan metric=used+requested …".into());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let catalogue = Catalogue::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    let plan = catalogue.newest(&plan.parse()?).ok_or_else(|| {
        let known: Vec<_> = catalogue.current().map(|p| p.slug.to_string()).collect();
        format!("there is no plan `{plan}`; {file} has {}", known.join(", "))
    })?;
    let mut all_fit = true;
    for request in requests {
        let (name, used, requested) = asked(request)?;
        // A name that no catalogue has is an error, and never "unlimited".
        let metric = catalogue.metric(name)?;
        let limit = plan.limit(&metric);
        let fits = admits(&plan, &metric, used, requested);
        all_fit &= fits;
        let outcome = if fits {
            let thresholds = catalogue.declared().thresholds(&metric);
            let total = used.saturating_add(requested);
            format!("yes ({})", level(total, limit, thresholds))
        } else {
            let mut others = catalogue.current();
            match others.find(|other| admits(other, &metric, used, requested)) {
                Some(other) => format!("no; the plan {} admits it", other.slug),
                None => "no; no plan admits it".to_owned(),
            }
        };
        println!("{name}: {used} + {requested} of {limit}: {outcome}");
    }
    Ok(all_fit)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("quota-cli: {error}");
            ExitCode::from(2)
        }
    }
}
