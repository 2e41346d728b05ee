//! Progress bars on standard error; silent where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `len` steps.
pub fn bar(what: impl Into<std::borrow::Cow<'static, str>>, len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<34} {wide_bar} {pos}/{len}  {eta} left").expect("a valid template");
    ProgressBar::new(len as u64).with_style(style).with_message(what)
}
