//! PHP and Composer.

use super::*;

const MANIFEST: &str =
    r#"{"name":"a/b","require":{"php":"~8.1.0","ext-gd":"*","ext-json":"*","monolog/monolog":"^3"}}"#;

#[test]
fn composer_installs_and_the_front_controller_is_served() {
    let lock = r#"{"packages":[{"name":"monolog/monolog","require":{"ext-intl":"*"}}]}"#;
    let found = look(&[
        ("composer.json", MANIFEST),
        ("composer.lock", lock),
        ("public/index.php", ""),
        ("package.json", EXPRESS),
    ]);
    assert!(found.warnings[0].contains("PHP extensions: gd, intl."), "{:?}", found.warnings);
    let plan = found.plan.unwrap();
    assert_eq!((&plan.runtime, plan.version.as_deref()), (&Runtime::Php, Some("8.1")));
    assert_eq!(
        plan.install[0].to_string(),
        "composer install --no-dev --prefer-dist --optimize-autoloader --no-interaction"
    );
    assert_eq!(plan.start.unwrap().to_string(), "php-serve public");
}

#[test]
fn what_the_lock_does_not_have_is_updated_and_what_it_has_is_kept() {
    let with = |lock: &str| look(&[("composer.json", MANIFEST), ("composer.lock", lock), ("index.php", "")]);
    let missing = with(r#"{"packages":[]}"#);
    assert!(missing.warnings[1].contains("`monolog/monolog` is missing"), "{:?}", missing.warnings);
    assert!(missing.plan.unwrap().install[0].to_string().starts_with("composer update "));
    let other = with(r#"{"content-hash":"0","packages":[{"name":"monolog/monolog"}]}"#);
    assert!(other.warnings[1].contains("content-hash"), "{:?}", other.warnings);
    assert!(other.plan.unwrap().install[0].to_string().starts_with("composer install "));
    let strict = [
        ("composer.json", MANIFEST),
        ("composer.lock", r#"{"content-hash":"0","packages":[{"name":"monolog/monolog"}]}"#),
        ("workspace.yaml", "lock: strict"),
    ];
    assert!(try_look(&strict).is_err());
}

#[test]
fn laravel_finds_its_folders_and_is_told_of_its_key() {
    let found = look(&[
        ("composer.json", r#"{"require":{}}"#),
        ("composer.lock", "{}"),
        ("artisan", ""),
        ("public/index.php", ""),
        ("package.json", r#"{"scripts":{"build":"vite build"}}"#),
    ]);
    assert!(found.warnings[0].contains("APP_KEY") && found.warnings[1].contains("needs Node"), "{:?}", found.warnings);
    let plan = found.plan.unwrap();
    assert!(plan.install[0].to_string().starts_with("mkdir -p storage/"), "{}", plan.install[0]);
}

#[test]
fn plain_php_is_served_from_the_root() {
    let found = look(&[("index.php", "")]);
    assert_eq!(found.warnings, Vec::<String>::new());
    let plan = found.plan.unwrap();
    assert_eq!((plan.start.unwrap().to_string().as_str(), plan.package_manager), ("php-serve .", None));
}

#[test]
fn what_only_heroku_has_is_served_by_what_the_image_has() {
    let found = plan(&[("index.php", ""), ("Procfile", "web: vendor/bin/heroku-php-apache2 -C x.conf public/\n")]);
    assert_eq!(found.start.unwrap().to_string(), "php-serve public");
}
