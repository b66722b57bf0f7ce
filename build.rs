//! Lets `shard::engine::coop` wrap the call by which glommio's bundled liburing sets a ring up.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--wrap=__sys_io_uring_setup");
    println!("cargo:rerun-if-changed=build.rs");
}
