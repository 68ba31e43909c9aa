//! What every benchmark shares: rounds, figures, what the kernel says of a process, and the report.
//!
//! Machines are noisy, so a promise is a ratio against a peer that runs in the same minute on the same work: A B A B,
//! three rounds or more, the median of the rounds' ratios and the worst one. `cargo bench -p landbridge-benches --bench
//! <name>` measures one promise or a few, prints a table, and writes `target/bench/<name>.json`; with `-- --quick` it
//! makes one short round.
//!
//! | module | holds |
//! | --- | --- |
//! | [`child`] | a process that ends with the benchmark: a peer, or the benchmark itself in another role |
//! | [`figures`] | medians, percentiles, ratios, and whether a promise holds |
//! | [`process`] | memory and CPU of processes as the kernel counts them, and the cores that they run on |
//! | [`report`] | the table and the JSON of a benchmark |
//! | [`rounds`] | how many rounds are made, and of which length |

pub mod child;
pub mod figures;
pub mod process;
pub mod report;
pub mod rounds;
