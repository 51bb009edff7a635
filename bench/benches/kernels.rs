//! How long each kernel takes, by criterion.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends there")]

use criterion::{Criterion, criterion_group, criterion_main};
use defi_bench::kernels::{Kernels, NAMES};

fn kernels(criterion: &mut Criterion) {
    let kernels = Kernels::new().unwrap();
    for name in NAMES {
        criterion.bench_function(name, |bencher| bencher.iter(|| kernels.run(name).unwrap()));
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
