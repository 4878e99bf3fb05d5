//! Handlers of a builder, and their state.

use std::future::Future;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Builder;
use crate::description::DESCRIBE;
use crate::error::{HandlerError, HandlerResult};
use crate::handler::Context;
use crate::method::Method;
use crate::stream::{BodyReader, Responder};

/// Handlers of the [`Builder`] get no state.
#[derive(Clone, Copy, Debug)]
pub struct Stateless;

/// Handlers of the [`Builder`] get a clone of this as their first argument.
#[derive(Clone, Debug)]
pub struct State<T>(T);

impl Builder {
    /// Adds a typed handler. See [`Method::typed`].
    pub fn handle<A, R, E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.handle_method(name, Method::typed(handler))
    }

    /// Adds a handler of raw bytes. See [`Method::raw`].
    pub fn handle_raw<E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.handle_method(name, Method::raw(handler))
    }

    /// Adds a handler that reads its argument and writes its result as a stream. See [`Method::stream`].
    pub fn handle_stream<E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.handle_method(name, Method::stream(handler))
    }

    /// Answers calls of unknown methods. See [`Handlers::set_fallback`](crate::Handlers::set_fallback).
    pub fn fallback<E, F, Fut>(self, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.settings.handlers.set_fallback(handler);
        self
    }
}

/// With state, a handler's first argument is a clone of it.
impl<T: Clone + Send + Sync + 'static> Builder<State<T>> {
    /// Adds a typed handler. See [`Method::typed`].
    pub fn handle<A, R, E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(T, A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let state = self.state.0.clone();
        let method = Method::typed(move |argument, context| handler(state.clone(), argument, context));
        self.handle_method(name, method)
    }

    /// Adds a handler of raw bytes. See [`Method::raw`].
    pub fn handle_raw<E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(T, Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let state = self.state.0.clone();
        let method = Method::raw(move |body, context| handler(state.clone(), body, context));
        self.handle_method(name, method)
    }

    /// Adds a handler that reads its argument and writes its result as a stream. See [`Method::stream`].
    pub fn handle_stream<E, F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(T, BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        let state = self.state.0.clone();
        let method =
            Method::stream(move |body, responder, context| handler(state.clone(), body, responder, context));
        self.handle_method(name, method)
    }

    /// Answers calls of unknown methods. See [`Handlers::set_fallback`](crate::Handlers::set_fallback).
    pub fn fallback<E, F, Fut>(self, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(T, Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let state = self.state.0.clone();
        self.settings.handlers.set_fallback(move |body, context| handler(state.clone(), body, context));
        self
    }
}

impl<S> Builder<S> {
    /// Adds a method of any kind, such as a handler of your own.
    pub fn handle_method(mut self, name: impl Into<String>, method: Method) -> Self {
        if let Err(error) = self.settings.handlers.add_method(name, method) {
            self.settings.handler_exists.get_or_insert(error);
        }
        self
    }

    /// Describes the methods of [typed services](mod@crate::service), and other [described](Method::described) methods,
    /// to callers. Adds the method [`callosum.describe`](crate::service::DESCRIBE), which ignores its argument and
    /// returns a list of [`MethodDescription`](crate::service::MethodDescription)s, sorted by name, of the methods at
    /// the time of the call. Off by default: every peer that can call it gets all names, types and doc comments.
    pub fn describe_services(self) -> Self {
        // A weak reference: the handlers own this closure.
        let handlers = self.settings.handlers.downgrade();
        let describe =
            move |_: IgnoredAny, _: Context| std::future::ready(HandlerResult::Ok(handlers.descriptions()));
        self.handle_method(DESCRIBE, Method::typed(describe))
    }

    /// Sets the state of the handlers that are added from now on: each call gets a clone of it as the first argument.
    /// It is usually an [`Arc`](std::sync::Arc), and the handlers are methods of the type in it.
    ///
    /// Handlers that were added before keep their state.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Mutex, PoisonError};
    ///
    /// use callosum_runtime::{BodyReader, Builder, Context, HandlerResult, Responder, State};
    /// # use bytes::Bytes;
    ///
    /// #[derive(Default)]
    /// struct Store(Mutex<HashMap<String, String>>);
    ///
    /// impl Store {
    ///     async fn get(self: Arc<Self>, key: String, _: Context) -> HandlerResult<Option<String>> {
    ///         Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned())
    ///     }
    ///
    ///     async fn put(self: Arc<Self>, (key, value): (String, String), _: Context) -> HandlerResult<()> {
    ///         self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    ///         Ok(())
    ///     }
    ///
    ///     async fn keys(self: Arc<Self>, _: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    ///         let keys: Vec<String> =
    ///             self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
    ///         let mut result = responder.begin().await?;
    ///         for key in keys {
    ///             result.write_item(&key).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// // A function does as well.
    /// async fn size(store: Arc<Store>, _: Bytes, _: Context) -> HandlerResult<Bytes> {
    ///     let store = store.0.lock().unwrap_or_else(PoisonError::into_inner);
    ///     Ok(store.len().to_string().into())
    /// }
    ///
    /// fn serve(builder: Builder) -> Builder<State<Arc<Store>>> {
    ///     builder
    ///         .with_state(Arc::new(Store::default()))
    ///         .handle("get", Store::get)
    ///         .handle("put", Store::put)
    ///         .handle_stream("keys", Store::keys)
    ///         .handle_raw("size", size)
    /// }
    /// ```
    pub fn with_state<T: Clone + Send + Sync + 'static>(self, state: T) -> Builder<State<T>> {
        self.in_state(State(state))
    }

    /// Handlers that are added from now on get no state.
    pub fn without_state(self) -> Builder {
        self.in_state(Stateless)
    }

    fn in_state<T>(self, state: T) -> Builder<T> {
        Builder { settings: self.settings, state }
    }
}
