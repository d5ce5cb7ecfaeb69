//! Every figure that docs/scale.md gives, as ratios within one run.
//!
//! ```text
//! cargo bench                        stores of 10k, 100k and 1M jobs, medians of 5; exits 1 if a goal is missed
//! cargo bench -- --short             every row at 10k jobs, once: do they run, and do the counts agree?
//! cargo bench -- --most 100000       only stores of up to so many jobs
//! cargo bench -- --only lock         only rows whose name holds this word
//! cargo bench -- --only "a week"     the size of a store in a week by a policy, and docs/retention-week.svg
//! cargo bench -- --runs 1            one run of each row instead of 5
//! cargo bench -- --heavy 20000       heavy stores of 20,000 jobs instead of 4,000: 3.8 GB each, and as much for a copy
//! cargo bench -- --stores DIR        the stores are kept in DIR
//! ```
//!
//! The stores are made once and kept in the target directory: hero_proc's newest layout, jobs of about 1 KB, half of them
//! codescaler's, 95 % of those with an action of their own, interleaved; WAL. Each measurement has a copy of its own, synced
//! before, so that no run pays for another's writes. The heavy stores have jobs of 143 KB. The floor is the bare `DELETE`s of
//! the same row ids, known beforehand, in one transaction with the same settings, another connection having written since
//! they were read.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that can't set up must fail, and prints")]

mod april;
mod heavy;
mod retention;
mod rows;
mod space;
mod stores;
mod usage;
mod week;

use std::process::ExitCode;

use stores::Stores;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    if let (Some(store), Some(mode)) = (value("--memory-of"), value("--mode")) {
        return rows::memory_of(store.as_ref(), mode);
    }
    let short = args.iter().any(|arg| arg == "--short");
    let most = value("--most").and_then(|most| most.parse().ok()).unwrap_or(usize::MAX);
    let only = value("--only").map_or("", String::as_str);
    let runs = value("--runs").and_then(|runs| runs.parse().ok()).unwrap_or(if short { 1_usize } else { 5 });
    let heavy = value("--heavy").and_then(|jobs| jobs.parse().ok()).unwrap_or(4_000);
    let stores = Stores::new(value("--stores"));

    let mut missed = 0;
    println!("{:<58} {:>12} {:>12} {:>8} {:>9}", "work | against", "work", "against", "ratio", "goal");
    let rows = if short { rows::all(|_| 10_000, 200) } else { rows::all(|jobs| jobs, heavy) };
    for row in rows.into_iter().filter(|row| row.jobs <= most && row.name.contains(only)) {
        let mut pairs: Vec<(f64, f64)> = (0..runs.max(1)).map(|_| (row.run)(&stores, row.jobs)).collect();
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (work, against) = pairs[pairs.len() / 2];
        let ratio = work / against;
        let met = if row.at_least { ratio >= row.goal } else { ratio <= row.goal };
        missed += usize::from(!met);
        println!(
            "{:<58} {:>12.1} {:>12.1} {:>7.2}x {}{:>7.2}x{}",
            row.name,
            work,
            against,
            ratio,
            if row.at_least { '≥' } else { '≤' },
            row.goal,
            if met || short { "" } else { "  missed" }
        );
    }
    if short {
        println!("every row runs, and the counts agree; of one run at this size, the times mean nothing");
        return ExitCode::SUCCESS;
    }
    println!("{missed} goals missed");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
