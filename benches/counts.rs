//! The hot rules, counted in instructions under valgrind: `tests/counts` runs this and compares
//! with `baseline.txt`. What is counted does not depend on how busy the machine is, nor, with
//! the tunables below, on which string functions libc chooses for it.

mod hot;

use gungraun::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use hot::{Rule, control, exchange, routing, slots, wire};

/// Every rule runs so often while it is counted, and before.
const TIMES: usize = 100;

/// Only instructions that every x86-64 machine has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX,-BMI2,-BMI1,-LZCNT,-MOVBE,-ERMS,-FSRM,-RTM,\
                        -AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW";

fn warm(mut rule: Rule) -> Rule {
    (0..TIMES).for_each(|_| rule());
    rule
}

#[library_benchmark]
#[bench::slot_take_put(warm(slots::slot()))]
#[bench::choice_500_of_1000_full(warm(slots::choice()))]
#[bench::claim_settle_1000_instances(warm(slots::claim_and_settle()))]
#[bench::route_by_name(warm(routing::by_name()))]
#[bench::route_by_headers(warm(routing::by_headers()))]
#[bench::describe_by_headers(warm(routing::described_anew()))]
#[bench::request_head_read(warm(wire::request_head()))]
#[bench::response_head_written(warm(wire::response_head()))]
#[bench::exchange_by_name(warm(exchange::named()))]
#[bench::exchange_by_headers(warm(exchange::described()))]
#[bench::wheel_arm_expire(warm(control::wheel()))]
#[bench::autoscaler_cycle(warm(control::autoscaler(1)))]
#[bench::publish_1_of_10000(warm(control::publish()))]
#[bench::histogram_record(warm(control::histogram()))]
fn times_100(mut rule: Rule) -> Rule {
    (0..TIMES).for_each(|_| rule());
    rule
}

library_benchmark_group!(name = rules; benchmarks = times_100);

main!(
    config = LibraryBenchmarkConfig::default().env("GLIBC_TUNABLES", TUNABLES);
    library_benchmark_groups = rules
);
