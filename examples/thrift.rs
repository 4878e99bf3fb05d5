//! A service of Apache Thrift: what `calculator.thrift` says, a trait and a client that are made of it, and an exception that comes back
//! as the value that it was.
//!
//! `cargo run -p callosum-examples --example thrift`

use std::error::Error;
use std::time::Duration;

use callosum_thrift::{MethodError, ThriftError};
use callosum_tokio::{Context, HandlerResult, builder};
use parking_lot::Mutex;

callosum_thrift::include_thrift!("calculator");
use calculator::{
    Calculator, CalculatorSumException, Ledger, LedgerBalanceException, LedgerClient, LedgerServer, Overflow,
};

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Book(Mutex<Vec<i64>>);

fn sum(numbers: &[i64]) -> Result<i64, Overflow> {
    let sum = numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(*number));
    sum.ok_or(Overflow { message: Some("too much for 64 bits".into()) })
}

impl Calculator for Book {
    async fn sum(&self, numbers: Vec<i64>, _: &Context) -> Result<i64, MethodError<CalculatorSumException>> {
        Ok(sum(&numbers)?)
    }
}

impl Ledger for Book {
    async fn write(&self, number: i64, _: &Context) -> HandlerResult<()> {
        self.0.lock().push(number);
        Ok(())
    }

    async fn balance(&self, _: &Context) -> Result<i64, MethodError<LedgerBalanceException>> {
        Ok(sum(&self.0.lock())?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let builder = callosum_thrift::register(builder(), "ledger", LedgerServer::new(Book::default()));
    let (binder, driver) = builder.bind("tcp://127.0.0.1:0").await?;
    let serving = tokio::spawn(driver);
    let (connector, driver) = callosum_tokio::builder().connect(&binder.endpoints()[0])?;
    let calling = tokio::spawn(driver);
    let ledger = LedgerClient::new(connector.peer().clone(), "ledger");

    // With the same key, they are ordered as the server's mode says.
    ledger.write(2).key("account").timeout(TIMEOUT).await?;
    ledger.write(40).key("account").timeout(TIMEOUT).await?;
    let balance = ledger.balance().key("account").timeout(TIMEOUT).await?;
    println!("the balance is {balance}");
    assert_eq!(balance, 42);

    // The exception is a value.
    match ledger.sum(&[i64::MAX, 1]).timeout(TIMEOUT).await {
        Err(ThriftError::Exception(CalculatorSumException::Overflow(overflow))) => {
            println!("as expected, {overflow}")
        }
        other => return Err(format!("it has no place: {other:?}").into()),
    }

    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await??;
    serving.await??;
    Ok(())
}
