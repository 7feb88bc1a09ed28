//! The helper processes alone, for this crate's tests: `windlass` itself plays this part in the product.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if runtime::is_helper(&args) {
        runtime::helper_main(&args);
    }
    std::process::exit(64);
}
