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

#[service(prefix = "a", prefix = "b")]
trait Twice {
    #[method(name = "stop")]
    async fn start(&self);

    async fn stop(&self);
}

#[service]
trait Same {
    #[method(name = "stop")]
    async fn start(&self);

    async fn stop(&self);
}

fn main() {}
