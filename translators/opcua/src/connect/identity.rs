//! What proves to a server who logs on.

use opcua::crypto::{
    PrivateKey, SecurityPolicy, X509, create_signature_data, legacy_encrypt_secret,
};
use opcua::types::{
    AnonymousIdentityToken, ByteString, ExtensionObject, SignatureData, UserNameIdentityToken,
    X509IdentityToken,
};

use crate::connect::choose::Chosen;
use crate::connect::{ConnectError, Stage};
use crate::credentials::Credentials;
use crate::spec::UserSpec;

fn own(text: String) -> ConnectError {
    ConnectError::new(Stage::Own, None, text)
}

/// The user's token and the signature that goes with it.
pub(crate) fn identity(
    user: &UserSpec,
    credentials: &dyn Credentials,
    chosen: &Chosen,
    nonce: &ByteString,
) -> Result<(ExtensionObject, SignatureData), ConnectError> {
    let policy_id = chosen.token.policy_id.clone();
    let failed = |error: opcua::types::Error| {
        ConnectError::refused(Stage::Activate, error.status(), &error.to_string())
    };
    match user {
        UserSpec::Anonymous => {
            let token = AnonymousIdentityToken { policy_id };
            Ok((ExtensionObject::from_message(token), SignatureData::default()))
        }
        UserSpec::Password { name, .. } => {
            let password = credentials.password(user).map_err(|error| own(error.to_string()))?;
            let password = password.unwrap_or_default();
            let certificate = match chosen.token_policy {
                SecurityPolicy::None => None,
                _ => Some(
                    X509::from_byte_string(&chosen.endpoint.server_certificate).map_err(failed)?,
                ),
            };
            let secret = legacy_encrypt_secret(
                chosen.policy,
                chosen.endpoint.security_mode,
                &chosen.token,
                nonce.as_ref(),
                &certificate,
                password.as_bytes(),
            )
            .map_err(failed)?;
            let token = UserNameIdentityToken {
                policy_id: secret.policy,
                user_name: name.as_str().into(),
                password: secret.secret,
                encryption_algorithm: secret.encryption_algorithm,
            };
            Ok((ExtensionObject::from_message(token), SignatureData::default()))
        }
        UserSpec::Certificate { cert, key } => {
            let pem = std::fs::read(cert)
                .map_err(|error| own(format!("user-cert {}: {error}", cert.display())))?;
            let certificate = X509::from_pem(&pem)
                .map_err(|_| own(format!("user-cert {} is no PEM certificate", cert.display())))?;
            let key = PrivateKey::read_pem_file(key).map_err(|_| {
                own(format!("user-key {} cannot be read as an RSA key in PEM", key.display()))
            })?;
            let server = &chosen.endpoint.server_certificate;
            let signature =
                create_signature_data(&key, chosen.token_policy, server, nonce).map_err(failed)?;
            let certificate_data = certificate.as_byte_string();
            let token = X509IdentityToken { policy_id, certificate_data };
            Ok((ExtensionObject::from_message(token), signature))
        }
    }
}
