//! `/settings`: the settings in effect (api §4.8).

use super::about::View;
use super::reply::Reply;

/// What the router was told, its version and its age.
pub(super) fn page(view: &View<'_>) -> Reply {
    let mut settings = view.about.settings.clone();
    if let Some(map) = settings.as_object_mut() {
        map.insert("git-version".into(), view.about.version.as_str().into());
        map.insert("started-at".into(), view.about.started.iso().into());
    }
    Reply::ok(&settings)
}
