//! A manager and its agents: the tour of everything. The guide's chapter `tour.md` says in which order to read it, and how to run it.
#![forbid(unsafe_code)]

mod agent;
mod api;
mod containers;
mod manager;
mod operator;

use std::error::Error;

use callosum_tokio::auth::{AllowList, CurveClient, load_keys, load_public_key};

const USAGE: &str = "usage: cluster manager BIND KEY_FILE ALLOWED_FILE
       cluster agent MANAGER KEY_FILE MANAGER_PUBLIC_KEY_FILE RULES_FILE
       cluster tour MANAGER KEY_FILE MANAGER_PUBLIC_KEY_FILE NODE IMAGE_FILE SERVICE";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let security = |own: &str, of_manager: &str| -> Result<_, Failure> {
        Ok(CurveClient::new(load_keys(own)?, load_public_key(of_manager)?))
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["manager", at, keys, allowed] => {
            let (binder, driver) = manager::bind(at, AllowList::open(load_keys(keys)?, allowed)?).await?;
            println!("listening on {}", binder.endpoints()[0]);
            Ok(driver.await?)
        }
        ["agent", manager, keys, manager_key, rules] => {
            agent::run(manager, security(keys, manager_key)?, rules).await
        }
        ["tour", manager, keys, manager_key, node, image, service] => {
            operator::tour(manager, security(keys, manager_key)?, node, image, service).await
        }
        _ => Err(USAGE.into()),
    }
}
