//! PHP: what Composer installs, and which folder is served. The image's `php-serve DOCROOT` serves it on `HOST` and `PORT`.

mod lock;

use serde_json::Value;

use super::folder::Folder;
use super::lock_policy::Locked;
use super::range::{self, Minor, Tilde};
use super::{ApplicationError, Command, Given, Plan, Runtime, WORKSPACE_YAML};
use lock::Lock;

/// What any image of PHP that is not very old allows.
const USUAL: Minor = Minor(8, 4);

/// The files by which a PHP tree is known.
pub(super) const MARKERS: [&str; 2] = ["composer.json", "index.php"];

/// Folders that hold the front controller, instead of the root: Symfony and Laravel, `CakePHP`, Drupal, and older habits.
const DOCROOTS: [&str; 5] = ["public", "webroot", "web", "www", "htdocs"];

const FLAGS: [&str; 4] = ["--no-dev", "--prefer-dist", "--optimize-autoloader", "--no-interaction"];

/// Extensions that every PHP has.
const ALWAYS: [&str; 19] = [
    "core",
    "ctype",
    "date",
    "fileinfo",
    "filter",
    "hash",
    "iconv",
    "json",
    "openssl",
    "pcre",
    "pdo",
    "phar",
    "posix",
    "random",
    "reflection",
    "session",
    "spl",
    "standard",
    "tokenizer",
];

/// What Laravel writes to.
const LARAVEL_FOLDERS: [&str; 5] = [
    "storage/framework/cache/data",
    "storage/framework/sessions",
    "storage/framework/views",
    "storage/logs",
    "bootstrap/cache",
];

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Plan, ApplicationError> {
    let mut plan = Plan::new(Runtime::Php);
    plan.dir = folder.dir().map(str::to_owned);
    if let Some(marker) = folder.first_of(&MARKERS) {
        plan.because("runtime", marker);
    }
    if let Some(text) = folder.text("composer.json")? {
        match serde_json::from_str::<Value>(&text) {
            Ok(manifest) => composer(folder, given, &text, &manifest, &mut plan, warnings)?,
            Err(error) => {
                warnings.push(format!("`{}` isn't valid JSON and is not used: {error}", folder.path("composer.json")));
            }
        }
    }
    let docroot = DOCROOTS.iter().find(|dir| folder.contains(&format!("{dir}/index.php")));
    let docroot = docroot.copied().or_else(|| folder.contains("index.php").then_some("."));
    if let Some(docroot) = docroot {
        plan.start = Some(Command::exec(["php-serve", docroot]));
        let file = if docroot == "." { "index.php".to_owned() } else { format!("{docroot}/index.php") };
        plan.because("start", file);
    } else if !given.has_start() {
        warnings.push(format!(
            "no start command found: there is no index.php, in the root or in {}; the tree is stored, not run. Add `start:` \
             in `{WORKSPACE_YAML}`",
            DOCROOTS.map(|dir| format!("{dir}/")).join(", ")
        ));
    }
    if folder.contains("artisan") {
        let environment = &given.declared.environment;
        if !environment.contains_key("APP_KEY") && !given.declared.secrets.contains_key("APP_KEY") {
            warnings.push(format!(
                "Laravel needs APP_KEY in its environment: `secrets: [APP_KEY]` in `{WORKSPACE_YAML}` takes it from whoever \
                 starts the container"
            ));
        }
        if !environment.contains_key("LOG_CHANNEL") {
            plan.environment.insert("LOG_CHANNEL".to_owned(), "stderr".to_owned());
        }
    }
    assets(folder, warnings)?;
    Ok(plan)
}

fn composer(
    folder: &Folder<'_>,
    given: &Given<'_>,
    text: &str,
    manifest: &Value,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), ApplicationError> {
    plan.package_manager = Some("composer".to_owned());
    plan.because("package_manager", "composer.json");
    let wanted = |name: &str| manifest.get("require").and_then(|require| require.get(name)).and_then(Value::as_str);
    let platform = manifest.pointer("/config/platform/php").and_then(Value::as_str);
    let demanded = match platform.and_then(range::named) {
        Some(minor) => Some((minor, "config.platform.php".to_owned())),
        None => wanted("php").and_then(|range| {
            let minor = range::demanded(range, USUAL, Tilde::Last)?;
            Some((minor, format!("require.php is `{range}`")))
        }),
    };
    if let Some((version, because)) = demanded {
        plan.version = Some(version.to_string());
        plan.because("version", because);
    }
    let lock = Lock::read(folder, warnings)?;
    let mut extensions: Vec<String> = lock::extensions(manifest).collect();
    extensions.extend(lock.iter().flat_map(Lock::extensions));
    extensions.retain(|name| !ALWAYS.contains(&name.as_str()));
    extensions.sort();
    extensions.dedup();
    if !extensions.is_empty() {
        let list = extensions.join(", ");
        plan.because("extensions", format!("{list}: asked for by composer.json or composer.lock"));
        warnings.push(format!(
            "this app asks for PHP extensions: {list}. Composer refuses to install where the image lacks one; then name \
             an image that has it as `image:` in `{WORKSPACE_YAML}`"
        ));
    }
    if given.declared.install.is_some() {
        return Ok(());
    }
    let missing = lock.as_ref().and_then(|lock| lock.missing(manifest));
    let frozen = given.declared.lock.freezes(
        Locked {
            file: "composer.lock",
            exists: lock.is_some(),
            wanted: manifest
                .get("require")
                .and_then(Value::as_object)
                .is_some_and(|all| all.keys().any(|name| name.contains('/'))),
            manifest: "composer.json",
            drift: missing.as_deref(),
            mend: "composer update",
        },
        plan,
        warnings,
    )?;
    if frozen
        && let Some(lock) = &lock
        && !lock.fits(text)
    {
        let problem = "composer.lock was not made from this composer.json (its content-hash is another one)";
        if given.declared.lock == super::lock_policy::LockPolicy::Strict {
            return Err(ApplicationError::Lock {
                problem: problem.to_owned(),
                mend: "composer update --lock".to_owned(),
            });
        }
        warnings.push(format!("{problem}: what it has is installed. Run `composer update --lock` and upload again"));
    }
    if folder.contains("artisan") {
        // Git keeps no empty folder, and Composer's scripts write there already.
        plan.install.push(Command::exec(["mkdir", "-p"].into_iter().chain(LARAVEL_FOLDERS)));
    }
    let verb = if frozen || lock.is_none() { "install" } else { "update" };
    plan.install.push(Command::exec(["composer", verb].into_iter().chain(FLAGS)));
    plan.inputs = inputs(folder, manifest);
    Ok(())
}

/// The files that Composer reads. Its class map and its scripts read everything else.
fn inputs(folder: &Folder<'_>, manifest: &Value) -> Vec<String> {
    let reads_tree = ["scripts", "repositories", "autoload"].iter().any(|key| manifest.get(key).is_some());
    if reads_tree {
        return vec![folder.whole()];
    }
    ["composer.json", "composer.lock"]
        .into_iter()
        .filter(|file| folder.contains(file))
        .map(|file| folder.path(file))
        .collect()
}

/// Assets that only Node can build.
fn assets(folder: &Folder<'_>, warnings: &mut Vec<String>) -> Result<(), ApplicationError> {
    let Some(text) = folder.text("package.json")? else { return Ok(()) };
    let package: Value = serde_json::from_str(&text).unwrap_or_default();
    let built = ["public/build", "public/dist", "public/assets"].iter().any(|dir| folder.has_folder(dir));
    if package.pointer("/scripts/build").is_some() && !built {
        warnings.push(format!(
            "package.json has a `build` script, which needs Node, and the PHP image has none: build before the upload and take \
             the result along (`!public/build/` in .workspaceignore), or name an image that has both in `{WORKSPACE_YAML}`"
        ));
    }
    Ok(())
}
