use super::*;

fn forward(n: usize) -> Arc<str> {
    n.to_string().into()
}

fn found(totals: &[Totals], user: Option<&str>, forward: &str) -> Totals {
    let mine = |totals: &&Totals| totals.user.as_deref() == user && &*totals.forward == forward;
    totals.iter().find(mine).unwrap().clone()
}

#[test]
fn forwards_of_a_user_past_the_limit_are_counted_together() {
    let table = Table::default();
    (0..MAX_FORWARDS + 5).for_each(|n| table.of(Some("a"), &forward(n)).open());
    table.of(Some("a"), &forward(0)).end();
    table.of(Some("b"), &forward(MAX_FORWARDS)).open();
    let totals = table.snapshot();
    assert_eq!(totals.len(), MAX_FORWARDS + 2);
    let other = found(&totals, Some("a"), OTHER);
    assert_eq!((other.connections, other.open), (5, 5));
    let first = found(&totals, Some("a"), "0");
    assert_eq!((first.connections, first.open), (1, 0));
    assert_eq!(found(&totals, Some("b"), &forward(MAX_FORWARDS)).connections, 1);
}

#[test]
fn pairs_past_the_limit_are_counted_together() {
    let table = Table::default();
    let user = |n: usize| format!("user {}", n / MAX_FORWARDS);
    (0..MAX_PAIRS + 5).for_each(|n| table.of(Some(&user(n)), &forward(n)).open());
    let totals = table.snapshot();
    assert_eq!(totals.len(), MAX_PAIRS + 1);
    assert_eq!(found(&totals, None, OTHER).connections, 5);
}
