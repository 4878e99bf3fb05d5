use super::*;

fn watched(read: FileStamp) -> Watched {
    Watched { path: "rules.toml".into(), read: Some(read), last: None, changes_in_a_row: 0, problem: None }
}

/// Stamps of two files, as if one had been written over the other.
fn stamps() -> [FileStamp; 2] {
    ["Cargo.toml", "README.md"].map(|path| FileStamp::of(path).expect("tests run in the crate's directory"))
}

fn no_descriptor(path: &Path) -> Result<Rules, RulesFileError> {
    // EMFILE, which has no `ErrorKind` of its own.
    Err(RulesFileError::Io { path: path.to_owned(), error: io::Error::from_raw_os_error(24) })
}

fn mistake(path: &Path) -> Result<Rules, RulesFileError> {
    let error = Rules::parse("[[connect").expect_err("it is not TOML");
    Err(RulesFileError::Rules { path: path.to_owned(), error })
}

#[test]
fn what_the_system_did_not_read_is_read_again_and_reported_once() {
    let [old, new] = stamps();
    let mut file = watched(old);
    assert!(file.look(Ok(old), |_| unreachable!("nothing has changed")).is_none());
    assert!(file.look(Ok(new), |_| unreachable!("it may still be written")).is_none());
    assert!(matches!(file.look(Ok(new), no_descriptor), Some(Err(RulesFileError::Io { .. }))));
    for _ in 0..10 {
        assert!(file.look(Ok(new), no_descriptor).is_none(), "it is known");
    }
    assert!(matches!(file.look(Ok(new), |_| Ok(Rules::default())), Some(Ok(_))));
    assert!(file.look(Ok(new), |_| unreachable!("it was read")).is_none());
}

#[test]
fn a_mistake_is_reported_once_and_read_again_when_the_file_changes() {
    let [old, new] = stamps();
    let mut file = watched(old);
    assert!(file.look(Ok(new), mistake).is_none());
    assert!(matches!(file.look(Ok(new), mistake), Some(Err(RulesFileError::Rules { .. }))));
    assert!(file.look(Ok(new), |_| unreachable!("it has the same mistake")).is_none());
    assert!(file.look(Ok(old), mistake).is_none());
    assert!(matches!(file.look(Ok(old), |_| Ok(Rules::default())), Some(Ok(_))));
}

/// Otherwise who writes to it all the time keeps rights in force that are withdrawn.
#[test]
fn a_file_that_changes_all_the_time_is_read_at_every_fourth_look() {
    let [first, second] = stamps();
    let mut file = watched(FileStamp::of("PROTOCOL.md").unwrap());
    for stamp in [second, first, second] {
        assert!(file.look(Ok(stamp), |_| unreachable!("it may still be written")).is_none());
    }
    assert!(matches!(file.look(Ok(first), |_| Ok(Rules::default())), Some(Ok(_))));
    assert!(file.look(Ok(first), |_| unreachable!("it was read")).is_none());
    assert!(file.look(Ok(second), |_| unreachable!("it may still be written")).is_none());
}

#[test]
fn so_is_one_that_is_missing_at_every_other_look() {
    let [first, second] = stamps();
    let mut file = watched(FileStamp::of("PROTOCOL.md").unwrap());
    let missing = || Err(io::ErrorKind::NotFound.into());
    for stamp in [second, first, second] {
        assert!(file.look(Ok(stamp), |_| unreachable!("it may still be written")).is_none());
        file.look(missing(), mistake);
    }
    assert!(matches!(file.look(Ok(first), |_| Ok(Rules::default())), Some(Ok(_))));
}

/// Its author may believe that the edit has corrected it.
#[test]
fn the_same_mistake_in_another_file_is_reported_again() {
    let [old, new] = stamps();
    let mut file = watched(old);
    for stamp in [new, old] {
        assert!(file.look(Ok(stamp), mistake).is_none());
        assert!(matches!(file.look(Ok(stamp), mistake), Some(Err(RulesFileError::Rules { .. }))));
    }
}

#[test]
fn a_file_that_comes_back_is_read() {
    let [old, _] = stamps();
    let mut file = watched(old);
    let missing = || Err(io::ErrorKind::NotFound.into());
    assert!(matches!(file.look(missing(), mistake), Some(Err(RulesFileError::Io { .. }))));
    assert!(file.look(missing(), mistake).is_none(), "it is known");
    assert!(file.look(Ok(old), mistake).is_none());
    assert!(matches!(file.look(Ok(old), |_| Ok(Rules::default())), Some(Ok(_))));
}
