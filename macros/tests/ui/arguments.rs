//! Arguments that can't travel, and keys that are none.

use callosum_macros::service;

#[service]
trait Agent {
    async fn start(&self, name: &str, (a, b): (u8, u8));

    #[method(key = image)]
    async fn stop(&self, container: String);

    #[method(key = container + 1)]
    async fn pause(&self, container: u64);

    #[method(color = "red", key = container)]
    async fn paint(&self, container: u64);

    async fn upload(&self, a: impl Stream<Item = u8>, b: impl Stream<Item = u8>);

    async fn write(&self, #[default(7)] a: u8, #[must_use] b: u8);
}

fn main() {}
