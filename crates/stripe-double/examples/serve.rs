//! The double by itself: `cargo run -p rawdrive-stripe-double --example serve -- [address] [key] [webhook
//! url] [webhook secret]`. Records calls in the file that `STRIPE_DOUBLE_RECORD` names. Ends with the standard input.

use std::io::{Read as _, Write as _};

use rawdrive_stripe_double::{Config, StripeDouble};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:12111".to_owned());
    let key = arguments
        .next()
        .unwrap_or_else(|| "sk_test_double".to_owned());
    let mut config = Config::new(key);
    config.listen = Some(address.parse()?);
    config.webhook = arguments.next().zip(arguments.next()).into_iter().collect();
    config.record = std::env::var_os("STRIPE_DOUBLE_RECORD").map(Into::into);
    let double = StripeDouble::start(config)?;
    writeln!(std::io::stdout(), "{}", double.url())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
