//! `hero_proc_cleanup`: hero_proc's side, codescalers' gateway, and the command that admins use.
//!
//! A client of the library: it uses nothing of it but what is public.

// The library reads ages as well.
mod age;
mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
