//! The service of upstream's demonstration.

use std::future::pending;

use callosum_runtime::{Context, HandlerError, HandlerResult};

use crate::simple::SimpleService;

/// Does what upstream's server does.
#[derive(Debug)]
pub struct Simple;

impl SimpleService for Simple {
    async fn echo(&self, msg: String, _: &Context) -> HandlerResult<String> {
        Ok(msg)
    }

    async fn add(&self, a: i64, b: i64, _: &Context) -> HandlerResult<i64> {
        Ok(a.wrapping_add(b))
    }

    async fn oops(&self, _: &Context) -> HandlerResult<bool> {
        Err(HandlerError::new("ZeroDivisionError", "oops"))
    }

    /// As long as its caller can wait.
    async fn long_delay(&self, _: &Context) -> HandlerResult<bool> {
        pending().await
    }
}
