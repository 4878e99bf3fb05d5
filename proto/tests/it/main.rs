//! The engine from outside: one program, so that it is linked once. Those that count allocations have one each.

#[cfg(feature = "internals")]
mod endpoint_model;
#[cfg(feature = "internals")]
mod golden;
#[cfg(feature = "internals")]
mod ordering_model;
mod output;
mod public_names;
#[cfg(feature = "internals")]
mod wire_props;
#[cfg(feature = "curve")]
mod zmtp_abuse;
#[cfg(feature = "curve")]
mod zmtp_curve;
mod zmtp_link;
