use super::*;

#[test]
fn codes_have_the_numbers_and_names_of_grpc() {
    let numbers: Vec<_> = Code::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(numbers, (0..17).collect::<Vec<_>>());
    for code in Code::ALL {
        assert_eq!(Code::from_number(code.number()), *code);
        assert_eq!(Code::from_name(code.name()), Some(*code));
        // `FailedPrecondition` is FAILED_PRECONDITION.
        assert_eq!(code.name().replace('_', ""), format!("{code:?}").to_uppercase());
    }
    assert_eq!((Code::from_number(17), Code::from_number(-1)), (Code::Unknown, Code::Unknown));
    assert_eq!(Code::from_name("NotFound"), None);
}
