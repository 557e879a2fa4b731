use rawdrive_plans::{Limit, Metric, Slug};

#[test]
fn a_limit_admits_up_to_itself() {
    for (limit, total, admits) in [
        (Limit::AtMost(0), 0, true),
        (Limit::AtMost(0), 1, false),
        (Limit::AtMost(7), 6, true),
        (Limit::AtMost(7), 7, true),
        (Limit::AtMost(7), 8, false),
        (Limit::Unlimited, u64::MAX, true),
    ] {
        assert_eq!(limit.admits(total), admits, "{limit} of {total}");
    }
}

#[test]
fn a_limit_is_a_number_or_nothing() {
    for (limit, bound, text) in [
        (Limit::Unlimited, None, "unlimited"),
        (Limit::AtMost(0), Some(0), "0"),
        (Limit::AtMost(5), Some(5), "5"),
    ] {
        assert_eq!(limit.bound(), bound);
        assert_eq!(Limit::from_bound(bound), limit);
        assert_eq!(limit.to_string(), text);
    }
}

#[test]
fn a_name_is_short_plain_and_begins_with_a_letter() {
    let longest = "a".repeat(63);
    for good in ["a", "api_calls", "single-sign-on", "v2", &longest] {
        let name = good.parse::<Metric>();
        assert_eq!(name.map(|name| name.to_string()).as_deref(), Ok(good));
    }
    let too_long = "a".repeat(64);
    for bad in [
        "", "2fa", "_a", "-a", "A", "aB", "a b", "a.b", "aé", &too_long,
    ] {
        let error = bad.parse::<Slug>().unwrap_err().to_string();
        assert!(error.contains("1 to 63 of a-z"), "{bad}: {error}");
    }
    // What is refused is quoted, as far as it is of interest.
    let endless = "b".repeat(10_000);
    let error = endless.parse::<Slug>().unwrap_err().to_string();
    assert!(error.starts_with(&format!("`{}`", "b".repeat(64))));
}

#[test]
fn names_of_the_core_are_what_is_stored() {
    assert_eq!(Slug::free().as_str(), "free");
    assert_eq!(Metric::team_members().as_str(), "team_members");
    let text = serde_json::to_string(&Slug::free()).unwrap();
    assert_eq!(text, "\"free\"");
    assert_eq!(serde_json::from_str::<Slug>(&text).unwrap(), Slug::free());
    assert!(serde_json::from_str::<Slug>("\"Free\"").is_err());
}
