//! Passes on what the interpreter is like that the extension is built for.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
