//! Requests whose arguments are not complete.

use super::*;

#[test]
fn an_unready_request_keeps_its_place_but_takes_no_slot() {
    for mode in MODES {
        let mut s = limited(mode, 1);
        arrive_unready(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        arrive(&mut s, A, 3, "");
        let (first, second) = match mode {
            OrderingMode::KeySerialized => (3, None),
            _ => (2, Some(3)),
        };
        assert_eq!(drain(&mut s), starts([first]), "{mode:?}");
        assert_eq!((s.running(), s.waiting()), (1, 2));
        let mut expected = if mode == OrderingMode::ExitOrdered { vec![] } else { releases([first]) };
        expected.extend(second.map(Did::Start));
        assert_eq!(finish(&mut s, first), expected, "{mode:?}");
        s.ready(1);
        s.ready(1);
        match mode {
            OrderingMode::Unordered => {
                assert_eq!(finish(&mut s, 3), [releases([3]), starts([1])].concat());
                assert_eq!(finish(&mut s, 1), releases([1]));
            }
            OrderingMode::ExitOrdered => {
                assert_eq!(finish(&mut s, 3), [releases([3]), starts([1])].concat());
                assert_eq!(finish(&mut s, 1), releases([1, 2]));
            }
            OrderingMode::KeySerialized => {
                assert_eq!(drain(&mut s), starts([1]));
                assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
                assert_eq!(finish(&mut s, 2), releases([2]));
            }
        }
        s.ready(1);
        assert!(s.is_idle(), "{mode:?}");
    }
}

#[test]
fn requests_that_become_ready_late_start_in_the_order_in_which_they_arrived() {
    for mode in MODES {
        for text in ["", "k"] {
            let mut s = limited(mode, 1);
            arrive(&mut s, A, 0, text);
            drain(&mut s);
            (1..=3).for_each(|number| arrive_unready(&mut s, A, number, text));
            (4..=5).for_each(|number| arrive(&mut s, A, number, text));
            [3, 1, 2].into_iter().for_each(|number| s.ready(number));
            for number in 0..5 {
                assert_eq!(finish(&mut s, number), [releases([number]), starts([number + 1])].concat());
            }
            assert_eq!(finish(&mut s, 5), releases([5]));
            assert!(s.is_idle());
        }
    }
}

#[test]
fn an_unready_request_that_is_withdrawn_or_forgotten_holds_up_nobody() {
    for mode in MODES {
        for forget in [false, true] {
            let mut s = scheduler(mode);
            arrive_unready(&mut s, A, 1, "k");
            arrive(&mut s, B, 2, "k");
            let runs = if mode == OrderingMode::KeySerialized { vec![] } else { starts([2]) };
            assert_eq!(drain(&mut s), runs, "{mode:?}");
            let mut expected = match forget {
                true => {
                    s.forget_connection(A);
                    vec![]
                }
                false => {
                    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten);
                    vec![]
                }
            };
            if mode == OrderingMode::KeySerialized {
                expected.extend(starts([2]));
            }
            assert_eq!(drain(&mut s), expected, "{mode:?}");
            s.ready(1);
            assert_eq!(finish(&mut s, 2), releases([2]), "{mode:?}");
            assert!(s.is_idle());
        }
    }
}

#[test]
fn an_unready_request_counts_as_waiting_until_it_starts() {
    let mut s = with(|config| {
        config.max_waiting_per_connection = 2;
        config.max_waiting_bytes_per_connection = 10;
    });
    s.offer(A, 1, OrderingKey::none(), 4, false).unwrap();
    refused(s.offer(A, 2, OrderingKey::none(), 7, false), Busy::WaitingBytes { limit: 10 });
    s.offer(A, 2, OrderingKey::none(), 6, false).unwrap();
    refused(s.offer(A, 3, OrderingKey::none(), 0, false), Busy::WaitingRequests { limit: 2 });
    offer(&mut s, A, 4, "", 99).unwrap();
    s.ready(1);
    assert_eq!(drain(&mut s), starts([1, 4]));
    s.offer(A, 3, OrderingKey::none(), 4, false).unwrap();
    assert_eq!(s.waiting(), 2);
}
