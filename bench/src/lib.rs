//! Side-by-side measurements of RPC stacks that do the same work: a body of N bytes goes to an echo server in
//! another process and comes back.
//!
//! Which loads there are is in [`cases`]. Uploads, alone and beside small calls, are the matter of [`upload`]; what connections cost
//! that do nothing, of [`idle`]; what other peers of a server can do to one, of [`neighbours`]; what carries connections, of [`tunnels`]. [`services`] compares what one writes.
//!
//! Every stack is a [`peers::Peer`] whose server and client each run in a process of their own. [`suite`] starts
//! them, interleaves the measurements and gathers [`report::Row`]s.

pub mod cases;
pub mod executor;
pub mod hold;
pub mod idle;
pub mod load;
pub mod neighbours;
pub mod pace;
pub mod peers;
pub mod plots;
pub mod proc;
pub mod process;
pub mod python;
pub mod report;
pub mod services;
pub mod suite;
pub mod tunnels;
pub mod upload;
