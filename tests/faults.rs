//! Faults of the sources never lead to a wrong lake. The simulated server injects scripts of faults into a run over the
//! sample chain. The run produces the lake of a run without faults, byte for byte, or fails with an error kind that
//! fits the faults. In the latter case the next run, without faults, completes the same lake.
//!
//! `DEFI_FAULT_CASES` is the number of random scripts for each chain (default 12), `DEFI_FAULT_SEED` their seed
//! (default 0). With 200 or more scripts, every fault must occur. The tests print the number of occurrences of each fault as a
//! table.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::thread;

use defi_shared::config::Schema;
use defi_shared::sources::graph::messages;
use defi_simulator::faults::{Attempts, Fault, FaultRule, Faults, RowDefect, add_row_defects};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::fault_bench::FaultBench;
use crate::support::fault_tally::Tally;
use crate::support::recording::recording_folder;

/// The number of random scripts from which on every fault occurs.
const CASES_OF_EVERY_FAULT: u64 = 200;

/// The number of scripts that run in parallel. A run mostly waits.
const PARALLELISM: u64 = 4;

/// A bench over the sample chain without invalid rows.
static CLEAN: LazyLock<FaultBench> = LazyLock::new(|| FaultBench::new(sample()));

fn env_number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn cases() -> u64 {
    env_number("DEFI_FAULT_CASES", 12)
}

fn sample() -> Recording {
    chain(&SampleOptions { wallets: 40, days: 3, seed: 5, ..SampleOptions::default() }, Schema::Aave).expect("a chain")
}

/// Returns the sample chain with invalid rows of every kind.
fn dirty() -> Recording {
    let mut recording = sample();
    let counts = add_row_defects(&mut recording, env_number("DEFI_FAULT_SEED", 0), RowDefect::ALL, 40);
    assert_eq!(counts.len(), RowDefect::ALL.len(), "{counts:?}");
    recording
}

fn rule() -> impl Strategy<Value = FaultRule> {
    let attempts = prop_oneof![
        3 => (1u32..4).prop_map(Attempts::First),
        1 => (4u32..10).prop_map(Attempts::First),
        2 => Just(Attempts::Any),
    ];
    (select(Fault::ALL), select(&[3u64, 30, 300][..]), attempts).prop_map(|(fault, per_mille, attempts)| {
        let per_mille = match fault {
            // Each occurrence costs a timeout: a run with many of them would take minutes.
            Fault::SlowHeaders | Fault::StalledBody => per_mille.min(30),
            // A run fails at its first permanent fault: a low rate lets other faults occur as well.
            fault if !fault.is_transient() => per_mille / 3,
            _ => per_mille,
        };
        FaultRule { fault, per_mille, attempts }
    })
}

fn script() -> impl Strategy<Value = Faults> {
    (any::<u64>(), vec(rule(), 1..7)).prop_map(|(seed, script)| Faults { seed, script, ..Faults::default() })
}

/// Calls `work` with each number below `count`, several calls in parallel, and adds up their tallies.
fn run_in_parallel(count: u64, work: impl Fn(u64, &mut Tally) + Sync) -> Tally {
    let (work, mut sum) = (&work, Tally::default());
    thread::scope(|scope| {
        let workers = (0..PARALLELISM).map(|worker| {
            scope.spawn(move || {
                let mut tally = Tally::default();
                (worker..count).step_by(PARALLELISM as usize).for_each(|number| work(number, &mut tally));
                tally
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            sum.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    sum
}

/// Runs random scripts over a chain. A script that leads to a wrong lake is shrunk before it is reported.
fn play_random_scripts(bench: &FaultBench) -> Tally {
    let tally = run_in_parallel(cases(), |case, tally| {
        let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&env_number("DEFI_FAULT_SEED", 0).to_le_bytes());
        seed[8..16].copy_from_slice(&case.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let tally = std::cell::RefCell::new(tally);
        let play = |faults| bench.play(&faults, &mut tally.borrow_mut()).map(drop).map_err(TestCaseError::fail);
        runner.run(&script(), play).unwrap_or_else(|error| panic!("case {case}: {error}"));
    });
    println!("{tally}");
    tally
}

#[test]
fn each_single_fault_is_recovered_or_reported() {
    let tally = run_in_parallel(Fault::ALL.len() as u64, |number, tally| {
        let fault = Fault::ALL[number as usize];
        let per_mille = if fault.is_transient() { 200 } else { 60 };
        let script = vec![FaultRule { fault, per_mille, attempts: Attempts::First(2) }];
        let outcome = CLEAN.play(&Faults { seed: 1, script, ..Faults::default() }, tally);
        let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", fault.name()));
        // Transient faults end within the attempts of a request. Two of them are not retried.
        let not_retried = [Fault::RetryAfterAnHour, Fault::WrongShape];
        let is_recovered = fault.is_transient() && !not_retried.contains(&fault);
        assert_eq!(outcome.is_none(), is_recovered, "{}: {outcome:?}", fault.name());
        assert!(tally.occurred(fault), "{} did not occur", fault.name());
    });
    println!("{tally}");
}

#[test]
fn client_classifies_every_graphql_error_message() {
    let mut seen = BTreeSet::new();
    for fault in [Fault::TransientErrors, Fault::PermanentErrors, Fault::Pruned] {
        let script = vec![FaultRule { fault, per_mille: 1000, attempts: Attempts::Any }];
        for error in CLEAN.request_errors(Faults { script, ..Faults::default() }, 600) {
            let details = error.details();
            let is_message = |message: &str| details.starts_with(&format!("{message} ("));
            let (kind, message) = messages().find(|(_, message)| is_message(message)).expect("a known message");
            assert_eq!(error.kind(), kind, "{message}");
            seen.insert(message);
        }
    }
    let missing: Vec<_> = messages().filter(|(_, message)| !seen.contains(message)).collect();
    assert!(missing.is_empty(), "messages that did not occur: {missing:?}");
}

#[test]
fn random_scripts_never_give_a_wrong_lake() {
    let tally = play_random_scripts(&CLEAN);
    if cases() >= CASES_OF_EVERY_FAULT {
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !tally.occurred(**fault)).collect();
        assert!(missing.is_empty(), "faults that did not occur: {missing:?}");
    }
}

#[test]
fn invalid_source_rows_are_quarantined_despite_faults() {
    // Many rows of few are invalid, which the quality checks would notice.
    let bench = FaultBench::with_checks(dirty(), |checks| {
        checks.quarantined_share.fail = None;
        checks.market_total_deviation.fail = None;
        checks.reserve_debt_deviation.fail = None;
        checks.reserve_supply_shortfall.fail = None;
    });
    assert_eq!(bench.raw_rows(), CLEAN.raw_rows(), "rows in the raw layer");
    assert!(bench.rejected() > CLEAN.rejected(), "{}", bench.rejected());
    play_random_scripts(&bench);
}

#[test]
#[ignore = "takes longer than all other tests of this file together; make soak-faults runs it"]
fn random_scripts_over_a_recording_never_give_a_wrong_lake() {
    let Some(folder) = recording_folder("golden-two-protocols") else { return };
    play_random_scripts(&FaultBench::new(Recording::load(&folder).expect("a recording")));
}
