//! What is no service.

use callosum_macros::service;

#[service]
struct Agent;

#[service(suffix = "x")]
trait Manager {}

#[service]
trait Lonely {
    async fn nobody_has_an_adapter(&self);
}

fn main() {}
