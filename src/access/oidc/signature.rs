//! Signatures checked by ring, which TLS uses anyway: no second library of cryptography for it.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, new_error},
    signature::{Error, Verifier},
};
use ring::signature::{
    self as scheme, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| match Check::of(*algorithm, key) {
        Some(check) => Ok(Box::new(check)),
        None => Err(new_error(ErrorKind::InvalidAlgorithm)),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes this the way in which signatures are checked. The first time counts.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

/// Whether signatures of an algorithm are believed.
pub(super) fn counts(algorithm: Algorithm) -> bool {
    scheme_of(algorithm).is_some()
}

/// Families of keys that come in pairs.
pub(super) fn families() -> [AlgorithmFamily; 3] {
    [AlgorithmFamily::Rsa, AlgorithmFamily::Ec, AlgorithmFamily::Ed]
}

enum Scheme {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

/// RSA of 2048 to 8192 bits, NIST curves, Ed25519.
fn scheme_of(algorithm: Algorithm) -> Option<Scheme> {
    Some(match algorithm {
        Algorithm::RS256 => Scheme::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Scheme::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Scheme::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Scheme::Rsa(&scheme::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Scheme::Rsa(&scheme::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Scheme::Rsa(&scheme::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Scheme::Other(&scheme::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Scheme::Other(&scheme::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Scheme::Other(&scheme::ED25519),
        _ => return None,
    })
}

struct Check {
    algorithm: Algorithm,
    scheme: Scheme,
    key: DecodingKey,
}

impl Check {
    /// `None` for a key of another family, or an algorithm that does not count.
    fn of(algorithm: Algorithm, key: &DecodingKey) -> Option<Self> {
        let scheme = scheme_of(algorithm).filter(|_| key.family() == algorithm.family())?;
        Some(Self { algorithm, scheme, key: key.clone() })
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        match (&self.scheme, self.key.kind()) {
            (Scheme::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Scheme::Other(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*algorithm, key).verify(message, signature)
            }
            _ => return Err(Error::new()),
        }
        .map_err(|_| Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
