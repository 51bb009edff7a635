//! Measures the time of each kernel with criterion.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

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
