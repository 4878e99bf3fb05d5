//! Middleware: layers around the calls that an endpoint makes, and around the handlers that answer its peers.
//!
//! A [`HandlerLayer`] sees each call whose handler starts: its [context](IncomingCall::context) (method, key, metadata, identity,
//! deadline), and the [`Reply`](crate::Reply) that answers it. A [`CallLayer`] sees each call that is made: its
//! [method, key, metadata and timeout](OutgoingCall), and its result or its [`CallError`](crate::CallError). Both are asynchronous,
//! and may pass a call on, change it, answer it themselves, or wait before and after. An async closure is a layer:
//!
//! ```
//! # use callosum_runtime::layer::{CallNext, HandlerNext, IncomingCall, OutgoingCall};
//! # use callosum_runtime::{Builder, Refusal, Reply};
//! fn with_layers(builder: Builder) -> Builder {
//!     builder
//!         .layer(|call: IncomingCall, next: HandlerNext| async move {
//!             let admin = call.context().identity().is_some_and(|identity| identity.user_id == "admin");
//!             if call.context().method().starts_with("admin.") && !admin {
//!                 return Reply::Failure(callosum_runtime::ErrorInfo::new("Forbidden", "for admins only").into());
//!             }
//!             next.run(call).await
//!         })
//!         .call_layer(|call: OutgoingCall, next: CallNext| async move {
//!             let method = call.method().to_owned();
//!             let result = next.run(call).await;
//!             if let Err(error) = &result {
//!                 eprintln!("{method}: {error}");
//!             }
//!             result
//!         })
//! }
//! ```
//!
//! The layer that is added first is the outermost: it sees a call first, and its outcome last. An endpoint without layers does
//! nothing for them: no allocation, no other future.
//!
//! # Ready-made layers
//! [`Tracing`] has a span for each call, and connects those of different peers; [`MethodTimeouts`] limits how long methods take. `Metrics`,
//! behind the feature `metrics`, measures them. How many handlers of a method run is limited without a layer:
//! [`MethodLimits`](crate::MethodLimits).
//!
//! # Order
//! If no layer awaits anything before it calls [`CallNext::run`], a call is made when its
//! [`Invocation`](crate::Invocation) is sent or first awaited, as without layers. So calls with one key that are sent
//! one after the other keep their order. If a layer awaits something first, for example a token or a permit, the call
//! is made only then: **a later call may overtake an earlier one**.
//!
//! # Streams
//! Layers see the beginning and the end of a streamed call, not the parts in between. On the calling side they run in a
//! task of their own, which ends with the call; writes wait until the layers have made the call. The outcome of the
//! call is a [`CallResult`] without a body, or the error, which is [`Cancelled`](crate::CallError::Cancelled) if the
//! application has dropped its [reader](crate::BodyReader) before the end. Changes of that outcome by a layer have no
//! effect. If a layer drops the future of such a call, the call is cancelled, and its reader and writer fail with the
//! layer's error.
//!
//! # What layers don't see
//! - Requests that no handler answers: unknown methods (without a [fallback](crate::Builder::fallback)), requests over
//!   a limit, and requests cancelled while they waited.
//! - On the calling side, arguments that can't be encoded and results that can't be decoded: layers see bytes.
//!
//! # Cancellation
//! When a call is dropped, or a handler is stopped, the futures of its layers are dropped at their current await. Put
//! cleanup into a destructor. A layer around a handler learns there why that is stopped, from
//! [`Context::cancel_reason`](crate::Context::cancel_reason); the call's outcome is then the cancellation, even if the handler still
//! replies in its [grace period](crate::Context::set_cancel_grace). Layers see a handler's panic as a reply, the failure named `Panic`.

mod handler;
#[cfg(feature = "metrics")]
mod metrics;
mod outcome;
mod spans;
mod timeouts;
mod trace_context;

pub use handler::{HandlerLayer, HandlerNext, IncomingCall};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use spans::{SpanContexts, Tracing};
pub use timeouts::MethodTimeouts;
pub use trace_context::TraceContext;

pub use crate::peer::{CallLayer, CallNext, CallResult, OutgoingCall};

pub(crate) use handler::HandlerLayers;
