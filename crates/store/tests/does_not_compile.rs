//! Ways to reach another tenant's rows that must not compile, each beside what the compiler answers; and
//! the legitimate use, which compiles, so that they fail for the reason they state.
//!
//! A new compiler may word its answers anew: `TRYBUILD=overwrite` on this test writes them; read each one.

#[test]
fn only_the_scopes_own_rows_can_be_reached() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compiles/*.rs");
    cases.compile_fail("tests/does_not_compile/*.rs");
}
