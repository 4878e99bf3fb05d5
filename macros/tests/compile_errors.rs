//! What is wrong with a trait is said at the place where it is.

#[test]
fn errors_are_where_the_mistake_is() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
