use rawdrive_plans::{
    Allowance, Catalogue, CatalogueError, Contradiction, Feature, Interval, Metric,
    MetricDefinition, MetricKind, Metrics, Plan, Slug,
};

const FREE: &str = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";

fn parsed(text: &str) -> Catalogue {
    Catalogue::parse(text).expect("a catalogue")
}

fn free_with(more: &str) -> Plan {
    let catalogue = parsed(&format!("{FREE}{more}"));
    let plan = catalogue.newest(&Slug::free()).expect("the free plan");
    Plan::clone(&plan)
}

/// The line and the field of a mistake, and what is said of it.
fn mistake(text: &str) -> (usize, String, String) {
    match Catalogue::parse(text) {
        Err(CatalogueError::Value {
            line,
            field,
            message,
        }) => (line, field, message),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_metric_is_declared_with_all_that_it_says() {
    let text = format!(
        "[[metric]]\nname = \"calls\"\nkind = \"flow\"\ningest = true\nper = \"folder\"\nunit = \"calls\"\n\
        [[metric]]\nname = \"pages\"\nkind = \"level\"\n{FREE}"
    );
    let catalogue = parsed(&text);
    let calls = MetricDefinition {
        ingest: true,
        unit: Some("calls".into()),
        ..MetricDefinition::new(MetricKind::Flow).per("folder")
    };
    let pages = MetricDefinition::new(MetricKind::Level);
    assert!(pages.warns && !pages.ingest);
    assert_eq!(pages.per.as_deref(), None);
    for (name, expected) in [("calls", &calls), ("pages", &pages)] {
        let metric = catalogue.metric(name).unwrap();
        assert_eq!(catalogue.definition(&metric), Some(expected));
        assert!(catalogue.declares(&metric));
    }
    assert_eq!(catalogue.definition(&Metric::new("page")), None);
    assert!(!catalogue.declares(&Metric::new("page")));
    let seats = catalogue.definition(&Metric::team_members()).unwrap();
    assert!(!seats.warns, "whoever takes a seat knows it");
    let all: Vec<_> = catalogue
        .metrics()
        .map(|(metric, _)| metric.as_str())
        .collect();
    assert_eq!(all, ["calls", "pages", "team_members"]);
}

#[test]
fn a_mistake_is_found_where_it_stands() {
    for (text, line, field, message) in [
        (
            "[[metric]]\nname = \"Calls\"\nkind = \"flow\"\n",
            2,
            "metric.name",
            "is no name",
        ),
        (
            "[[metric]]\nname = \"team_members\"\nkind = \"flow\"\n",
            2,
            "metric.name",
            "is declared already",
        ),
        (
            "[[plan]]\nslug = \"Free\"\nversion = 1\nname = \"\"\n",
            2,
            "plan.slug",
            "is no name",
        ),
        (
            "[[plan]]\nslug = \"free\"\nversion = 0\nname = \"\"\n",
            3,
            "plan.version",
            "must be 1 or more",
        ),
        (
            &format!("{FREE}limits = {{ Calls = 1 }}\n"),
            5,
            "plan.limits.Calls",
            "is no name",
        ),
        (
            &format!("{FREE}limits = {{ team_members = \"many\" }}\n"),
            5,
            "plan.limits.team_members",
            "must be a whole number from 0, \"unlimited\", or {",
        ),
        (
            &format!("{FREE}limits = {{ team_members = true }}\n"),
            5,
            "plan.limits.team_members",
            "must be a whole number",
        ),
        (
            &format!("{FREE}features = {{ Exports = true }}\n"),
            5,
            "plan.features.Exports",
            "is no name",
        ),
        (
            &format!(
                "{FREE}prices = [{{ currency = \"us\", interval = \"month\", amount = 1 }}]\n"
            ),
            5,
            "plan.prices.currency",
            "three lower-case letters",
        ),
        (
            &format!(
                "{FREE}prices = [{{ currency = \"us1\", interval = \"month\", amount = 1 }}]\n"
            ),
            5,
            "plan.prices.currency",
            "three lower-case letters",
        ),
        (
            &format!("{FREE}trial_days = 731\n"),
            5,
            "plan.trial_days",
            "from 0 to 730",
        ),
    ] {
        let (found_line, found_field, said) = mistake(text);
        assert_eq!((found_line, found_field.as_str()), (line, field), "{text}");
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn the_ends_of_what_is_allowed_are_allowed() {
    let plan = free_with("grace_days = 730\ntrial_days = 0\n");
    assert_eq!((plan.grace_days, plan.trial_days), (Some(730), Some(0)));
    for currency in ["bhd", "jod", "kwd", "omr", "tnd", "usd"] {
        let text = |amount: u32| {
            format!(
                "{FREE}prices = [{{ currency = \"{currency}\", interval = \"year\", amount = {amount} }}]\n"
            )
        };
        assert!(Catalogue::parse(&text(1_230)).is_ok(), "{currency}");
        assert_eq!(
            Catalogue::parse(&text(1_235)).is_ok(),
            currency == "usd",
            "{currency}"
        );
    }
    // One currency by the month and by the year, and one interval in two currencies, are different prices.
    let prices = "prices = [{ currency = \"usd\", interval = \"month\", amount = 1 }, \
        { currency = \"usd\", interval = \"year\", amount = 2 }, { currency = \"eur\", interval = \"month\", amount = 3 }]\n";
    let plan = free_with(prices);
    let amount = |currency, interval| plan.price(currency, interval).map(|price| price.amount);
    assert_eq!(amount("usd", Interval::Month), Some(1));
    assert_eq!(amount("usd", Interval::Year), Some(2));
    assert_eq!(amount("eur", Interval::Month), Some(3));
    assert_eq!(amount("eur", Interval::Year), None);
}

#[test]
fn versions_are_found_by_their_number_and_the_newest_is_current() {
    let text = format!(
        "{FREE}[[plan]]\nslug = \"pro\"\nversion = 2\nname = \"Two\"\n[[plan]]\nslug = \"pro\"\nversion = 1\nname = \"One\"\n"
    );
    let catalogue = parsed(&text);
    let pro = Slug::new("pro");
    let name = |plan: Option<std::sync::Arc<Plan>>| plan.map(|plan| plan.name.clone());
    assert_eq!(name(catalogue.newest(&pro)).as_deref(), Some("Two"));
    assert_eq!(name(catalogue.version(&pro, 1)).as_deref(), Some("One"));
    assert_eq!(name(catalogue.version(&pro, 2)).as_deref(), Some("Two"));
    assert_eq!(catalogue.version(&pro, 3), None);
    assert_eq!(catalogue.version(&Slug::new("team"), 1), None);
    assert_eq!(catalogue.newest(&Slug::new("team")), None);
    let names = |plans: Vec<&std::sync::Arc<Plan>>| -> Vec<_> {
        plans.iter().map(|plan| plan.name.clone()).collect()
    };
    assert_eq!(names(catalogue.current().collect()), ["Free", "Two"]);
    assert_eq!(
        names(catalogue.versions().iter().collect()),
        ["Free", "Two", "One"]
    );
}

#[test]
fn features_are_those_that_any_plan_names() {
    let text = format!(
        "{FREE}features = {{ reports = false, exports = true }}\n\
        [[plan]]\nslug = \"pro\"\nversion = 1\nname = \"Pro\"\nfeatures = {{ reports = true }}\n"
    );
    let catalogue = parsed(&text);
    let all: Vec<_> = catalogue.features().map(Feature::as_str).collect();
    assert_eq!(all, ["exports", "reports"]);
    assert!(catalogue.has_feature(&Feature::new("reports")));
    assert!(!catalogue.has_feature(&Feature::new("report")));
    let free = catalogue.newest(&Slug::free()).unwrap();
    let of_free: Vec<_> = free
        .features()
        .map(|(feature, on)| (feature.as_str(), on))
        .collect();
    assert_eq!(of_free, [("exports", true), ("reports", false)]);
    assert!(!free.feature(&Feature::new("unnamed")));
}

#[test]
fn a_digest_is_of_the_canonical_text() {
    let plan = free_with("limits = { team_members = 1 }\n");
    let canonical = r#"{"slug":"free","version":1,"name":"Free","limits":{"team_members":1},"features":{},"prices":[]}"#;
    assert_eq!(plan.canonical(), canonical);
    let hex: String = plan
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // `printf '%s' '…' | sha256sum`
    assert_eq!(
        hex,
        "43bb3565c55c44526f01c994385e3f195251b6fa08e78a5219765e747dda5a86"
    );
    assert_ne!(plan.digest(), free_with("").digest());
}

#[test]
fn intervals_have_names_and_lengths() {
    for (interval, name, months) in [(Interval::Month, "month", 1), (Interval::Year, "year", 12)] {
        assert_eq!(interval.as_str(), name);
        assert_eq!(interval.to_string(), name);
        assert_eq!(interval.months(), months);
        assert_eq!(name.parse(), Ok(interval));
    }
    let unknown = "week".parse::<Interval>().unwrap_err();
    assert_eq!(unknown.to_string(), "must be month or year");
}

/// A metric whose limit has a large unit, a plain name, and its own.
fn bytes() -> Metrics {
    let names = &[("storage_gb", 1 << 30), ("max_bytes", 1)];
    let definition = MetricDefinition::new(MetricKind::Level).limited_as(names);
    Metrics::default().with(Metric::new("bytes"), definition)
}

#[test]
fn a_limit_has_one_metric_by_each_of_its_names() {
    let (metrics, bytes) = (bytes(), Metric::new("bytes"));
    for (name, units) in [("bytes", 1), ("storage_gb", 1 << 30), ("max_bytes", 1)] {
        assert_eq!(metrics.limited_by(name), Some((&bytes, units)), "{name}");
    }
    assert_eq!(metrics.limited_by("storage_tb"), None);
    assert_eq!(
        metrics.limit_name(&bytes),
        "max_bytes",
        "the first whose unit is one"
    );
    assert_eq!(
        metrics.limit_name(&Metric::team_members()),
        "max_team_members"
    );
    let unknown = Metric::new("calls");
    assert_eq!(metrics.limit_name(&unknown), "calls");
    assert_eq!(metrics.get(&unknown), None);
}

#[test]
fn a_limit_is_printed_in_the_largest_unit_in_which_it_is_whole() {
    for (written, printed) in [
        ("bytes = 3221225472", "storage_gb = 3"),
        ("bytes = 3221225473", "max_bytes = 3221225473"),
        ("bytes = \"unlimited\"", "storage_gb = \"unlimited\""),
        ("max_bytes = 0", "storage_gb = 0"),
    ] {
        let text = format!("{FREE}limits = {{ {written} }}\n");
        let catalogue = Catalogue::parse_with(bytes(), &text).unwrap();
        let toml = catalogue.to_toml(&bytes());
        assert!(
            toml.contains(&format!("limits = {{ {printed} }}")),
            "{toml}"
        );
    }
}

#[test]
fn a_catalogue_is_printed_as_a_person_would_write_it() {
    let text = "[[metric]]\nname = \"calls\"\nkind = \"flow\"\ningest = true\nper = \"folder\"\nunit = \"calls\"\n\
        \n[[metric]]\nname = \"pages\"\nkind = \"level\"\n\
        \n[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\nlimits = { calls = 5 }\nfeatures = { reports = true }\n\
        prices = [{ amount = 2900, currency = \"usd\", interval = \"month\", stripe_price = \"price_1\" }]\n\
        grace_days = 7\ntrial_days = 14\n";
    assert_eq!(parsed(text).to_toml(&Metrics::default()), text);
    // What a plan does not say is left out.
    let least =
        "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\nlimits = {}\nfeatures = {}\n";
    assert_eq!(parsed(FREE).to_toml(&Metrics::default()), least);
}

#[test]
fn what_two_definitions_say_differently_is_named() {
    let published = free_with("");
    let mut renamed = published.clone();
    "Gratis".clone_into(&mut renamed.name);
    let refused = published.amended(&renamed);
    assert_eq!(refused, Err(Contradiction::Terms("name")));
    assert_eq!(refused.unwrap_err().to_string(), "other name");
    // A price's id at the provider may change; one that is not said stays.
    let price = |id: &str| {
        free_with(&format!(
            "prices = [{{ currency = \"usd\", interval = \"month\", amount = 1{id} }}]\n"
        ))
    };
    let (first, second) = (
        price(", stripe_price = \"p1\""),
        price(", stripe_price = \"p2\""),
    );
    assert_eq!(first.amended(&second), Ok(second.clone()));
    assert_eq!(first.amended(&price("")), Ok(first.clone()));
    // The same currency by another interval, or the same interval in another currency, is a further price.
    for more in [
        "prices = [{ currency = \"usd\", interval = \"year\", amount = 9 }]\n",
        "prices = [{ currency = \"eur\", interval = \"month\", amount = 9 }]\n",
    ] {
        let amended = first.amended(&free_with(more)).unwrap();
        assert_eq!(amended.prices.len(), 2);
        assert_eq!(amended.prices[0], first.prices[0]);
        assert_eq!(amended.prices[1].amount, 9);
    }
}

#[test]
fn limits_are_listed_as_the_plan_names_them() {
    let plan = free_with("limits = { team_members = \"unlimited\" }\n");
    let limits: Vec<_> = plan.limits().collect();
    assert_eq!(limits, [(&Metric::team_members(), Allowance::Unlimited)]);
    assert_eq!(free_with("").limits().count(), 0);
}
