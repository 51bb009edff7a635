//! Whatever goes wrong with the sources, no run calls a wrong lake good. Scripts of faults are played by the server of the sample
//! chain; a run either gives the lake of a run without faults, byte for byte, or it fails with a kind that fits what happened,
//! and the next run without faults completes it to that same lake.
//!
//! `DEFI_FAULT_CASES` is the number of random scripts of each chain (12), `DEFI_FAULT_SEED` chooses them (0). From 200 scripts
//! on that is the long form: every fault has to occur, and a recording is played over too. A table says what did occur.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use defi_shared::sources::graph::messages;
use defi_simulator::faults::{Asks, Dirt, Fault, Faults, Line, soil};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::fault_bench::Bench;
use crate::support::fault_tally::Tally;

/// From so many random scripts on it is the long form, and chance leaves nothing out.
const MANY: u64 = 200;

/// Scripts that are played at once: a run waits more than it works.
const AT_ONCE: u64 = 4;

/// The sample chain, clean.
static CLEAN: LazyLock<Bench> = LazyLock::new(|| Bench::new(sample()));

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn cases() -> u64 {
    number("DEFI_FAULT_CASES", 12)
}

fn sample() -> Recording {
    chain(&SampleOptions { wallets: 40, days: 3, seed: 5 }).expect("a chain")
}

/// The sample chain with dirt on it, and how much of which kind.
fn dirty() -> Recording {
    let mut recording = sample();
    let soiled = soil(&mut recording, number("DEFI_FAULT_SEED", 0), Dirt::ALL, 40);
    assert_eq!(soiled.len(), Dirt::ALL.len(), "{soiled:?}");
    recording
}

fn line() -> impl Strategy<Value = Line> {
    let asks = prop_oneof![
        3 => (1u32..4).prop_map(Asks::First),
        1 => (4u32..10).prop_map(Asks::First),
        2 => Just(Asks::Any),
    ];
    (select(Fault::ALL), select(&[3u64, 30, 300][..]), asks).prop_map(|(fault, per_mille, asks)| {
        let per_mille = match fault {
            // Each is waited out: a run with very many of them would take minutes, and show nothing new.
            Fault::SlowHeaders | Fault::StalledBody => per_mille.min(30),
            // A run ends with the first fault that lasts: rare ones leave something to the others.
            fault if !fault.is_passing() => per_mille / 3,
            _ => per_mille,
        };
        Line { fault, per_mille, asks }
    })
}

fn script() -> impl Strategy<Value = Faults> {
    (any::<u64>(), vec(line(), 1..7)).prop_map(|(seed, script)| Faults { seed, script, ..Faults::default() })
}

/// Does so many things by number, several at once, and adds up what they tell.
fn side_by_side(count: u64, work: impl Fn(u64, &mut Tally) + Sync) -> Tally {
    let (work, mut sum) = (&work, Tally::default());
    thread::scope(|scope| {
        let workers = (0..AT_ONCE).map(|worker| {
            scope.spawn(move || {
                let mut tally = Tally::default();
                (worker..count).step_by(AT_ONCE as usize).for_each(|number| work(number, &mut tally));
                tally
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            sum.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    sum
}

/// Plays random scripts over a chain. A script that leads to a wrong lake is made smaller before it is shown.
fn play_random_scripts(bench: &Bench) -> Tally {
    let tally = side_by_side(cases(), |case, tally| {
        let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number("DEFI_FAULT_SEED", 0).to_le_bytes());
        seed[8..16].copy_from_slice(&case.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let tally = std::cell::RefCell::new(tally);
        let play = |faults| bench.play(&faults, &mut tally.borrow_mut()).map(drop).map_err(TestCaseError::fail);
        runner.run(&script(), play).unwrap_or_else(|wrong| panic!("case {case}: {wrong}"));
    });
    println!("{tally}");
    tally
}

#[test]
fn every_fault_by_itself_is_survived_or_refused() {
    let tally = side_by_side(Fault::ALL.len() as u64, |number, tally| {
        let fault = Fault::ALL[number as usize];
        let per_mille = if fault.is_passing() { 200 } else { 60 };
        let script = vec![Line { fault, per_mille, asks: Asks::First(2) }];
        let outcome = CLEAN.play(&Faults { seed: 1, script, ..Faults::default() }, tally);
        let outcome = outcome.unwrap_or_else(|wrong| panic!("{}: {wrong}", fault.name()));
        // What passes within the tries of a request goes unnoticed, but for what is not asked again at all.
        let gives_up = [Fault::RetryAfterAnHour, Fault::WrongShape];
        let is_survived = fault.is_passing() && !gives_up.contains(&fault);
        assert_eq!(outcome.is_none(), is_survived, "{}: {outcome:?}", fault.name());
        assert!(tally.happened(fault), "{} did not happen", fault.name());
    });
    println!("{tally}");
}

#[test]
fn each_message_of_a_graphql_error_is_understood_through_the_whole_client() {
    let mut said = BTreeSet::new();
    for fault in [Fault::PassingErrors, Fault::LastingErrors, Fault::Pruned] {
        let script = vec![Line { fault, per_mille: 1000, asks: Asks::Any }];
        for error in CLEAN.refusals(Faults { script, ..Faults::default() }, 600) {
            let what = error.what();
            let is_said = |message: &str| what.starts_with(&format!("{message} ("));
            let (kind, message) = messages().find(|(_, message)| is_said(message)).expect("a message of the table");
            assert_eq!(error.kind(), kind, "{message}");
            said.insert(message);
        }
    }
    let missing: Vec<_> = messages().filter(|(_, message)| !said.contains(message)).collect();
    assert!(missing.is_empty(), "were not said: {missing:?}");
}

#[test]
fn random_scripts_never_lead_to_a_wrong_lake() {
    let tally = play_random_scripts(&CLEAN);
    if cases() >= MANY {
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !tally.happened(**fault)).collect();
        assert!(missing.is_empty(), "did not happen: {missing:?}");
    }
}

#[test]
fn rows_that_are_wrong_at_their_source_are_kept_aside_whatever_else_goes_wrong() {
    let bench = Bench::new(dirty());
    assert_eq!(bench.raw_rows(), CLEAN.raw_rows(), "rows of the raw layer");
    assert!(bench.rejected() > CLEAN.rejected(), "{}", bench.rejected());
    play_random_scripts(&bench);
}

/// The recordings take longer than the rest together: they are part of the long form.
#[test]
fn random_scripts_over_a_recording_never_lead_to_a_wrong_lake() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/recordings/golden-two-protocols");
    if cases() < MANY || !folder.exists() {
        return println!("not played: {} scripts, {}", cases(), folder.display());
    }
    play_random_scripts(&Bench::new(Recording::load(&folder).expect("a recording")));
}
