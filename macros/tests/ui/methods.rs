//! Methods that can't be called from elsewhere.

use callosum_macros::service;

#[service]
trait Agent<T> {
    fn start(&self);

    async fn stop(&mut self);

    async fn list();

    async fn find<K>(&self, key: K);

    async fn ping(&self) {}

    async unsafe fn format(&self);

    async fn peer(&self);

    #[method(name = "start")]
    async fn again(&self);

    async fn load(&self) -> Result<u8>;

    async fn tail(&self) -> Result<impl Iterator<Item = u8>, Error>;

    const VERSION: u32;
}

fn main() {}
