use super::*;

#[test]
fn pairs_past_the_limit_are_counted_together() {
    let table = Table::default();
    let forward = |n: usize| Arc::from(n.to_string().as_str());
    (0..MAX_PAIRS).for_each(|n| table.of(Some("a"), &forward(n)).open());
    (MAX_PAIRS..MAX_PAIRS + 5).for_each(|n| table.of(Some("a"), &forward(n)).open());
    table.of(Some("a"), &forward(0)).end();
    let totals = table.snapshot();
    assert_eq!(totals.len(), MAX_PAIRS + 1);
    let other = totals.iter().find(|totals| &*totals.forward == OTHER).unwrap();
    assert_eq!((other.user.as_deref(), other.connections, other.open), (None, 5, 5));
    let first = totals.iter().find(|totals| &*totals.forward == "0").unwrap();
    assert_eq!((first.connections, first.open), (1, 0));
}
