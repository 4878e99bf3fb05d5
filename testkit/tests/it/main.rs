//! The kit, and the engine and the async API on it: one program, so that it is linked once. The simulation has its own, which is
//! compiled with optimization too.

mod changed_runtime;
mod curve_by_hand;
mod destructors;
mod drained;
mod faults;
mod grace;
mod history;
mod layers;
mod locks;
mod packet_props;
mod session_props;
mod shutdown;
mod streamed_layers;
mod unit;
mod wakers;
mod world;
