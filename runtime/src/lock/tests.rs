use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

/// A body whose destructor takes a lock, as one that uses the API does.
struct Owner {
    body: Vec<u8>,
    lock: Arc<Mutex<usize>>,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        assert_unlocked();
        *self.lock.lock() += 1;
        self.dropped.fetch_add(1, Relaxed);
    }
}

#[derive(Default)]
struct Owners {
    lock: Arc<Mutex<usize>>,
    dropped: Arc<AtomicUsize>,
}

impl Owners {
    fn body(&self, len: usize) -> Bytes {
        let (lock, dropped) = (self.lock.clone(), self.dropped.clone());
        Bytes::from_owner(Owner { body: vec![7; len], lock, dropped })
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Relaxed)
    }
}

#[test]
fn bytes_dropped_under_locks_outlive_the_last_of_them() {
    let owners = Owners::default();
    let body = guarded(owners.body(COPY_MAX + 1));
    let other = Mutex::new(());
    let outer = other.lock();
    let inner = owners.lock.lock();
    drop(body.slice(1..2));
    drop(body);
    drop(inner);
    assert_eq!(owners.dropped(), 0, "another lock is held");
    drop(outer);
    assert_eq!((owners.dropped(), *owners.lock.lock()), (1, 1));
    drop(guarded(owners.body(COPY_MAX + 1)));
    assert_eq!(owners.dropped(), 2, "at once where no lock is held");
}

#[test]
fn small_bytes_are_copied_and_bytes_of_their_own_are_not() {
    let owners = Owners::default();
    let copy = guarded(owners.body(COPY_MAX));
    assert_eq!((owners.dropped(), copy.len()), (1, COPY_MAX));
    for len in [1, 10 * COPY_MAX] {
        let own = Bytes::from(vec![1; len]);
        let at = own.as_ptr();
        assert_eq!(guarded(own).as_ptr(), at);
    }
    let shared = Bytes::from(vec![1; COPY_MAX + 1]);
    assert_eq!(guarded(shared.clone()).as_ptr(), shared.as_ptr(), "and so are large ones");
    assert!(guarded(owners.body(0)).is_empty());
    assert_eq!(owners.dropped(), 2);
}

#[test]
fn a_destructor_that_panics_stops_no_other() {
    struct Panics(Vec<u8>);
    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("a destructor of the application's");
        }
    }
    let owners = Owners::default();
    let bad = guarded(Bytes::from_owner(Panics(vec![0; COPY_MAX + 1])));
    let good = guarded(owners.body(COPY_MAX + 1));
    let lock = Mutex::new(());
    let held = lock.lock();
    drop((bad, good));
    drop(held);
    assert_eq!(owners.dropped(), 1);
}

#[test]
fn a_message_keeps_its_frames() {
    let owners = Owners::default();
    let frames = [owners.body(3), owners.body(COPY_MAX + 1), Bytes::from_static(b"x")];
    let message = Multipart::from_frames(frames.clone()).expect("three frames");
    let kept = guarded_message(message);
    assert_eq!(kept.frames(), frames);
    assert_eq!(guarded_message(Multipart::default()), Multipart::default());
}
