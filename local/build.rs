//! Strips symbols from the release build of the command, which halves its size. The profile keeps them for the
//! benchmarks, whose instruction counts find functions by name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("PROFILE") == "release" && variable("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bin=defi=-Wl,--strip-all");
    }
}
