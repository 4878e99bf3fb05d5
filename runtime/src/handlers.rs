//! The methods of an endpoint by name, which change while calls run.

use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use callosum_proto::Text;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::description::MethodDescription;
use crate::error::{HandlerError, HandlerExists};
use crate::handler::Context;
use crate::lock::{RwLock, drop_caught};
use crate::method::{Kind, Method};
use crate::method_limits::{MethodLimit, MethodLimits};
use crate::stream::{BodyReader, Responder};

/// The methods of an endpoint. A cheap handle: add and remove methods while calls are running.
///
/// [`add`](Self::add) fails if the name is taken, so that two parts of a program don't use the same name by mistake;
/// use [`replace`](Self::replace) to do so on purpose.
///
/// When the endpoint's driver has ended, all handlers are dropped, so a handler may own handles to its own endpoint.
#[derive(Clone, Default)]
pub struct Handlers {
    table: Arc<RwLock<Table>>,
}

#[derive(Default)]
struct Table {
    methods: FxHashMap<Text, Arc<Method>>,
    limited: FxHashMap<Text, Arc<MethodLimit>>,
    fallback: Option<Arc<Method>>,
}

/// The methods of an endpoint, for what they own themselves.
pub(crate) struct WeakHandlers(Weak<RwLock<Table>>);

impl WeakHandlers {
    /// The descriptions of the methods, sorted by name.
    pub(crate) fn descriptions(&self) -> Vec<MethodDescription> {
        let Some(table) = self.0.upgrade() else { return Vec::new() };
        let mut methods: Vec<_> = table
            .read()
            .methods
            .iter()
            .filter_map(|(name, method)| {
                Some(MethodDescription { name: name.to_string(), ..method.description.clone()? })
            })
            .collect();
        methods.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        methods
    }
}

/// The handler of a method.
pub(crate) struct Found {
    pub(crate) method: Arc<Method>,
    pub(crate) limit: Option<Arc<MethodLimit>>,
    pub(crate) is_fallback: bool,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

// A value that a handler owns may use the handlers when it is dropped, so never drop a handler under the lock.
impl Handlers {
    /// Adds a typed handler: [`Method::typed`].
    ///
    /// # Errors
    /// If there is a handler of this name.
    pub fn add<A, R, E, F, Fut>(&self, name: impl Into<String>, handler: F) -> Result<(), HandlerExists>
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.add_method(name, Method::typed(handler))
    }

    /// Adds a handler of raw bytes: [`Method::raw`].
    ///
    /// # Errors
    /// If there is a handler of this name.
    pub fn add_raw<E, F, Fut>(&self, name: impl Into<String>, handler: F) -> Result<(), HandlerExists>
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.add_method(name, Method::raw(handler))
    }

    /// Adds a handler that streams: [`Method::stream`].
    ///
    /// # Errors
    /// If there is a handler of this name.
    pub fn add_stream<E, F, Fut>(&self, name: impl Into<String>, handler: F) -> Result<(), HandlerExists>
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.add_method(name, Method::stream(handler))
    }

    /// Adds a method of any kind.
    ///
    /// # Errors
    /// If there is a handler of this name.
    pub fn add_method(&self, name: impl Into<String>, method: Method) -> Result<(), HandlerExists> {
        let name = name.into();
        // Declared before the lock is taken, so that a refused method is dropped after the lock.
        let method = Arc::new(method);
        match self.table.write().methods.entry(Text::from(name.clone())) {
            Entry::Occupied(_) => Err(HandlerExists { name }),
            Entry::Vacant(place) => {
                place.insert(method.clone());
                Ok(())
            }
        }
    }

    /// Adds methods: all, or none if one of their names is taken, or two have the same.
    pub(crate) fn add_all(&self, methods: Vec<(String, Method)>) -> Result<(), HandlerExists> {
        let methods: Vec<_> =
            methods.into_iter().map(|(name, method)| (Text::from(name), Arc::new(method))).collect();
        let mut names = FxHashSet::default();
        let mut table = self.table.write();
        let taken = methods
            .iter()
            .find(|(name, _)| table.methods.contains_key(name.as_bytes()) || !names.insert(name.clone()));
        if let Some((name, _)) = taken {
            let name = name.as_str().to_owned();
            // Unlock before the methods are dropped.
            drop(table);
            return Err(HandlerExists { name });
        }
        table.methods.extend(methods);
        Ok(())
    }

    /// Adds a method, and replaces an earlier one of this name; running calls of that one go on. Returns whether there
    /// was one.
    pub fn replace(&self, name: impl Into<String>, method: Method) -> bool {
        let (name, method) = (Text::from(name.into()), Arc::new(method));
        let replaced = self.table.write().methods.insert(name, method);
        replaced.is_some()
    }

    /// The names of all methods, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.table.read().methods.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Sets the handler of calls of unknown methods, which otherwise get an ERROR named `NoSuchMethod`. Replaces an
    /// earlier one.
    pub fn set_fallback<E, F, Fut>(&self, handler: F)
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let replaced = self.table.write().fallback.replace(Arc::new(Method::raw(handler)));
        drop(replaced);
    }

    /// Limits a method, also if its handler is added later or is the fallback. Replaces earlier limits;
    /// [`MethodLimits::default`] removes them. Running calls go on.
    pub fn set_limits(&self, name: impl Into<String>, limits: MethodLimits) {
        let name = Text::from(name.into());
        let mut table = self.table.write();
        match limits.concurrency() {
            Some(max) => table.limited.entry(name).or_default().set(max),
            // Running handlers are still counted, in case a limit is set again.
            None => table.limited.get(&name).into_iter().for_each(|limit| limit.set(usize::MAX)),
        }
    }

    /// Removes a handler; its running calls go on. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.table.write().methods.remove(name.as_bytes());
        removed.is_some()
    }

    /// Removes the fallback handler. Returns whether there was one.
    pub fn remove_fallback(&self) -> bool {
        let removed = self.table.write().fallback.take();
        removed.is_some()
    }

    pub(crate) fn downgrade(&self) -> WeakHandlers {
        WeakHandlers(Arc::downgrade(&self.table))
    }

    /// The endpoint is over. What its handlers own may be what keeps it in memory.
    pub(crate) fn clear(&self) {
        let Table { methods, fallback, .. } = std::mem::take(&mut *self.table.write());
        // One by one: the others are dropped all the same.
        methods.into_values().chain(fallback).for_each(|method| drop_caught("a handler", method));
    }

    /// Whether the handler of a method takes its argument as a stream. So does the refusal of an unknown method, which waits
    /// for no argument.
    pub(crate) fn streams(&self, name: &str) -> bool {
        let table = self.table.read();
        let method = table.methods.get(name.as_bytes()).or(table.fallback.as_ref());
        method.is_none_or(|method| matches!(method.kind, Kind::Streamed(_)))
    }

    pub(crate) fn find(&self, name: &Text) -> Option<Found> {
        let table = self.table.read();
        let limit = match table.limited.is_empty() {
            true => None,
            false => table.limited.get(name.as_bytes()).cloned(),
        };
        let (method, is_fallback) = match table.methods.get(name.as_bytes()) {
            Some(method) => (method.clone(), false),
            None => (table.fallback.clone()?, true),
        };
        Some(Found { method, limit, is_fallback })
    }
}
