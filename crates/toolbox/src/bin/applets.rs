//! The toolbox on its own, for its tests: `applets cat FILE`, or `ln -s applets cat`.

fn main() {
    let mut arguments: Vec<String> = std::env::args().collect();
    if let Some(code) = toolbox::run(&arguments) {
        std::process::exit(code);
    }
    arguments.remove(0);
    std::process::exit(toolbox::run(&arguments).unwrap_or(127));
}
