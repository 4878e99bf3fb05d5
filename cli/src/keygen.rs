//! `callosum keygen`.

use callosum_runtime::auth::{generate_keys, save_keys};

use crate::args::Keygen;
use crate::exit::{Failure, say};

pub(crate) fn run(args: &Keygen) -> Result<(), Failure> {
    let keys = generate_keys();
    save_keys(&keys, &args.file)?;
    Ok(say(&keys.public().to_string())?)
}
