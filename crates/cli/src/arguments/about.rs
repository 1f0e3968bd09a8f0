//! What helps to use the program itself.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::LanguageArgument;

/// `taal glossary`
#[derive(Debug, Args)]
#[command(
    mut_arg("lang", |lang| lang.help("en or nl [default: that of the locale, if it is one of these, or en]")),
    after_help = "Example:\n  taal glossary perplexity\n  taal glossary --lang nl"
)]
pub struct GlossaryArguments {
    /// The word to explain [default: all]
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub language: LanguageArgument,
}

/// `taal completions`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal completions bash > ~/.local/share/bash-completion/completions/taal\n  \
                  taal completions zsh > ~/.zfunc/_taal"
)]
pub struct CompletionsArguments {
    /// The shell [default: that of the variable SHELL]
    #[arg(value_name = "SHELL")]
    pub shell: Option<Shell>,
}

/// `taal man`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal man | man -l -\n  taal man ~/.local/share/man/man1")]
pub struct ManArguments {
    /// A directory for one page per verb; it is made where it is missing, and old pages are replaced
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
