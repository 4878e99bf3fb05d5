use super::*;

#[test]
fn rules_are_counted_apart_and_at_the_edge() {
    let counts = Arc::<Counts>::default();
    let (two, free) = (Permission::new("two").max_connections(2), Permission::new("free"));
    let first = counts.take(&two).unwrap();
    let _second = counts.take(&two).unwrap();
    assert_eq!(counts.take(&two).unwrap_err(), Reason::Busy);
    let _free: Vec<_> = (0..10).map(|_| counts.take(&free).unwrap()).collect();
    drop(first);
    let _third = counts.take(&two).unwrap();
    assert_eq!(counts.take(&two).unwrap_err(), Reason::Busy);
    assert_eq!(counts.0.lock().len(), 2);
    drop((_second, _third));
    assert_eq!(counts.0.lock().len(), 1);
}
