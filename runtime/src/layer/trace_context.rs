//! W3C trace context: which trace a call belongs to, as it travels in metadata.
//!
//! Source: <https://www.w3.org/TR/trace-context/>. Responsible for its text form and for which context is current; not for what spans
//! record.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use bytes::Bytes;
use callosum_proto::{Metadata, MetadataTooLarge};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Most bytes of `tracestate` that are passed on; a longer one is dropped.
const MAX_STATE: usize = 512;

thread_local! {
    /// Of the handler that is being polled.
    static CURRENT: RefCell<Option<TraceContext>> = const { RefCell::new(None) };
}

/// A span of a trace: the parent of what is called with it. It travels in the metadata `traceparent` and `tracestate`, as
/// [W3C's recommendation](https://www.w3.org/TR/trace-context/) says.
///
/// Its text, in `Display`, is that of `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span; not all zero.
    pub span_id: [u8; 8],
    /// Bit 0: the caller records the trace.
    pub flags: u8,
    /// What tracing systems add, passed on as it came. At most 512 bytes.
    pub state: Bytes,
}

impl TraceContext {
    /// A span of a trace, without state.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Self {
        Self { trace_id, span_id, flags, state: Bytes::new() }
    }

    /// With this `tracestate`.
    #[must_use]
    pub fn with_state(self, state: impl Into<Bytes>) -> Self {
        Self { state: state.into(), ..self }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// Reads it from metadata; `None` if there is none, or it is not valid.
    pub fn extract(metadata: &Metadata) -> Option<Self> {
        let context = Self::parse(std::str::from_utf8(metadata.get(PARENT)?).ok()?)?;
        let state = metadata.get(STATE).filter(|state| state.len() <= MAX_STATE).cloned();
        Some(context.with_state(state.unwrap_or_default()))
    }

    /// Writes it into metadata, and replaces an earlier one.
    ///
    /// # Errors
    /// If the metadata has no room for it; then nothing was added.
    pub fn inject(&self, metadata: &mut Metadata) -> Result<(), MetadataTooLarge> {
        let mut with = metadata.clone();
        with.insert(PARENT, self.to_string())?;
        if !self.state.is_empty() {
            with.insert(STATE, self.state.clone())?;
        }
        *metadata = with;
        Ok(())
    }

    /// That of the handler that is being polled, if the endpoint has the layer [`Tracing`](super::Tracing); or of the
    /// [scope](Self::scope).
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Makes this the current one while the future is polled. For tasks that a handler spawns: the current one does not follow them
    /// by itself.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _entered = Entered(CURRENT.replace(Some(self.clone())));
            future.as_mut().poll(cx)
        })
        .await
    }

    /// `version-traceid-spanid-flags` in lower-case hexadecimal. Later versions may go on after another `-`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let [version] = hex(parts.next()?)?;
        let (trace_id, span_id) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        let is_known = match version {
            0 => parts.next().is_none(),
            version => version != 0xff,
        };
        let is_valid = is_known && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then(|| Self::new(trace_id, span_id, flags))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

/// Restores the previous trace context.
struct Entered(Option<TraceContext>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the recommendation.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn metadata_and_back() {
        let context = TraceContext::parse(EXAMPLE).expect("it is valid").with_state("congo=t61rcWkgMzE");
        assert_eq!(context.to_string(), EXAMPLE);
        let mut metadata = Metadata::new();
        context.inject(&mut metadata).expect("it fits");
        assert_eq!(metadata.get(PARENT).map(|text| &text[..]), Some(EXAMPLE.as_bytes()));
        assert_eq!(TraceContext::extract(&metadata), Some(context));
        metadata.insert(STATE, vec![b'a'; MAX_STATE + 1]).expect("it fits");
        assert_eq!(TraceContext::extract(&metadata).expect("it is valid").state, "");
    }

    #[test]
    fn full_metadata_stay_as_they_are() {
        let mut metadata = Metadata::new();
        for name in 0..Metadata::MAX_ENTRIES - 1 {
            metadata.insert(name.to_string(), "").expect("it fits");
        }
        let full = metadata.clone();
        let context = TraceContext::parse(EXAMPLE).expect("it is valid").with_state("a=b");
        context.inject(&mut metadata).expect_err("there is room for one");
        assert_eq!(metadata, full);
    }

    #[test]
    fn what_is_not_valid() {
        let valid = |text: &str| TraceContext::parse(text).is_some();
        assert!(valid("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), "a later version");
        assert!(valid("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-else"));
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-ébf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(!valid(text), "{text}");
        }
    }
}
