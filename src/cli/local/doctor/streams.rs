//! What camera streams need: GStreamer, its elements, TLS for `rtsps`.

use std::path::{Path, PathBuf};

use super::{Finding, Verdict};
use crate::camera::{self, MissingElement};

/// Files of glib-networking that bring TLS.
const TLS_MODULES: [&str; 2] = ["libgiognutls.so", "libgioopenssl.so"];

/// Every finding about streams.
pub(super) fn check() -> Vec<Finding> {
    let mut findings = gstreamer();
    findings.push(tls(&module_folders()));
    findings
}

fn gstreamer() -> Vec<Finding> {
    const CHECK: &str = "GStreamer";
    if let Err(error) = camera::gst_opener() {
        let mend = "sudo apt-get install gstreamer1.0-plugins-base gstreamer1.0-plugins-good";
        return vec![Finding::bad(CHECK, Verdict::Missing, error.to_string(), mend)];
    }
    let mut findings = vec![Finding::ok(CHECK, camera::gstreamer_version())];
    let missing = camera::missing_elements();
    if missing.is_empty() {
        findings.push(Finding::ok("plugins", "all elements that cameras need"));
    }
    findings.extend(missing.into_iter().map(|MissingElement { element, package, purpose }| {
        let found = format!("no element {element} (for {purpose})");
        Finding::bad("plugins", Verdict::Missing, found, format!("sudo apt-get install {package}"))
    }));
    findings
}

/// Whether GLib finds a TLS module; only `rtsps` cameras need one.
fn tls(folders: &[PathBuf]) -> Finding {
    const CHECK: &str = "TLS for rtsps";
    let modules = folders.iter().flat_map(|folder| TLS_MODULES.map(|name| folder.join(name)));
    match modules.into_iter().find(|path| path.is_file()) {
        Some(path) => Finding::ok(CHECK, path.display().to_string()),
        None => {
            let found = "GLib has no TLS module: rtsps cameras can't be reached";
            Finding::bad(CHECK, Verdict::Warning, found, "sudo apt-get install glib-networking")
        }
    }
}

/// Where GLib looks for modules: its variables, then the usual folders.
fn module_folders() -> Vec<PathBuf> {
    let variables = ["GIO_EXTRA_MODULES", "GIO_MODULE_DIR"].into_iter().filter_map(std::env::var_os);
    let mut folders: Vec<PathBuf> =
        variables.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()).collect();
    for base in ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new) {
        folders.push(base.join("gio/modules"));
        // Debian keeps one folder an architecture.
        let below = std::fs::read_dir(base).into_iter().flatten().flatten();
        folders.extend(below.map(|entry| entry.path().join("gio/modules")));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tls_module_rtsps_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        let finding = tls(&folders);
        assert!(finding.verdict == Verdict::Warning && finding.mend.ends_with("glib-networking"), "{finding:?}");
        std::fs::write(dir.path().join("libgiognutls.so"), "").unwrap();
        assert_eq!(tls(&folders).verdict, Verdict::Ok);
    }
}
