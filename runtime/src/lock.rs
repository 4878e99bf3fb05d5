//! The locks of this crate, under which no code of the application runs, and the bytes that it relies on.
//!
//! A body may be [`Bytes::from_owner`], whose destructor is the application's and may use this API. The engine drops bodies in many
//! places, all of them under a lock. The idea: what the application gives is made [`guarded`] where it comes in. The destructor of
//! guarded bytes puts the application's bytes aside while its thread holds a lock, and the thread drops them when it has released its
//! last one. So nothing that drops bytes, in the engine or here, has to know whose they are.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use callosum_proto::{Call, Multipart, Reply};

/// Copy shared bytes up to this size: that costs no more than the allocation of what would guard them.
const COPY_MAX: usize = 1024;

thread_local! {
    /// Locks that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// How many bytes objects are in [`SPENT`]; apart, because this needs no destructor of the thread.
    static SPENT_LEN: Cell<usize> = const { Cell::new(0) };
    /// Values that were dropped while this thread held a lock.
    static SPENT: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// A mutex. See the [module](self).
#[derive(Default)]
pub(crate) struct Mutex<T>(
    #[expect(clippy::disallowed_types, reason = "the only one")] parking_lot::Mutex<T>,
);

/// A lock with many readers. See the [module](self).
#[derive(Default)]
pub(crate) struct RwLock<T>(
    #[expect(clippy::disallowed_types, reason = "the only one")] parking_lot::RwLock<T>,
);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::const_mutex(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        Guard::new(self.0.lock())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> Guard<parking_lot::RwLockReadGuard<'_, T>> {
        Guard::new(self.0.read())
    }

    pub(crate) fn write(&self) -> Guard<parking_lot::RwLockWriteGuard<'_, T>> {
        Guard::new(self.0.write())
    }
}

/// Access to what a lock protects, by the guard `G` of the lock itself.
pub(crate) struct Guard<G> {
    // Dropped first: what was put aside is dropped without the lock.
    value: G,
    _held: Held,
}

/// Access to what a [`Mutex`] protects.
pub(crate) type MutexGuard<'a, T> = Guard<parking_lot::MutexGuard<'a, T>>;

impl<G> Guard<G> {
    fn new(value: G) -> Self {
        HELD.with(|held| held.set(held.get() + 1));
        Self { value, _held: Held }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.value
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.value
    }
}

/// Counts a lock as held until it is dropped.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        let left = HELD.with(|held| {
            held.set(held.get() - 1);
            held.get()
        });
        if left == 0 && SPENT_LEN.get() > 0 {
            drop_spent();
        }
    }
}

#[cold]
fn drop_spent() {
    SPENT_LEN.set(0);
    // A destructor that comes back here finds an empty list, and drops what it adds.
    let spent = SPENT.try_with(RefCell::take).unwrap_or_default();
    spent.into_iter().for_each(|bytes| drop_caught("a body", bytes));
}

/// Drops what is the application's, or holds it. If that panics, what follows has to be done all the same.
pub(crate) fn drop_caught<T>(what: &'static str, value: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
        tracing::error!("the destructor of {what} panicked");
    }
}

/// Checks that this thread holds no lock: code of the application is about to run.
///
/// # Panics
/// If it does, in builds with debug assertions.
#[track_caller]
pub(crate) fn assert_unlocked() {
    debug_assert_eq!(HELD.get(), 0, "code of the application runs under a lock");
}

/// The application's bytes, which may be dropped anywhere.
struct Guarded(Bytes);

impl AsRef<[u8]> for Guarded {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        if HELD.get() == 0 {
            return drop_caught("a body", bytes);
        }
        let mut bytes = Some(bytes);
        match SPENT.try_with(|spent| spent.borrow_mut().extend(bytes.take())) {
            Ok(()) => SPENT_LEN.set(SPENT_LEN.get() + 1),
            // The thread's own destructors run, and one of them uses an endpoint: better leaked than dropped under its lock.
            Err(_) => std::mem::forget(bytes),
        }
    }
}

/// The same bytes, whose destructor runs no code of the application under a lock. Not to be called under one.
pub(crate) fn guarded(mut bytes: Bytes) -> Bytes {
    guard(&mut bytes);
    bytes
}

#[inline]
fn guard(bytes: &mut Bytes) {
    // Unique bytes have no foreign owner, and never get one. Bytes that were just serialized are unique, so they are not wrapped.
    if !bytes.is_unique() {
        guard_shared(bytes);
    }
}

fn guard_shared(bytes: &mut Bytes) {
    assert_unlocked();
    *bytes = match bytes.len() <= COPY_MAX {
        true => Bytes::copy_from_slice(bytes),
        false => Bytes::from_owner(Guarded(std::mem::take(bytes))),
    };
}

/// Wraps a call's bytes so that the engine may drop them under a lock.
pub(crate) fn guard_call(call: &mut Call) {
    call.metadata.detach();
    guard(&mut call.body);
}

/// Wraps a reply's bytes so that the engine may drop them under a lock.
pub(crate) fn guard_reply(reply: &mut Reply) {
    // The others have no bytes of the application's.
    if let Reply::Result { body, metadata, .. } = reply {
        metadata.detach();
        guard(body);
    }
}

/// A message of a link that the application has written, which the engine may drop.
pub(crate) fn guarded_message(message: Multipart) -> Multipart {
    // A message without frames is reported as an anomaly later.
    Multipart::from_frames(message.into_frames().map(guarded)).unwrap_or_default()
}
