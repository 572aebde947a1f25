//! Secrets: from the environment that Envoy lets in, or from a configuration that is a mounted secret itself.

use sentinel_core::{
    config::{CredentialsConfig, Secret, Variable},
    conversation::Credentials,
};

/// Looks the password up.
///
/// # Errors
/// What is missing, in words for the log. Never the secret.
pub fn credentials(config: Option<&CredentialsConfig>) -> Result<Option<Credentials>, String> {
    let Some(config) = config else {
        return Ok(None);
    };
    let password = match &config.password {
        Secret::Inline(password) => password.0.clone(),
        Secret::Environment(Variable(name)) => match std::env::var(name) {
            Ok(password) if !password.is_empty() => password,
            _ => {
                return Err(format!(
                    "configuration field `credentials.password.environment`: `{name}` is not set: \
                     is it in Envoy's environment, and in vm_config.environment_variables.host_env_keys?"
                ));
            }
        },
    };
    Ok(Some(Credentials {
        username: config.username.0.clone(),
        password,
    }))
}
