"""
The names of Go's crypto/tls for ciphers, curves and versions, and OpenSSL's names for them.

Source: Go, package crypto/tls: CipherSuites, CurveID, ClientAuthType, read 2026-11; OpenSSL, ciphers(1).
"""

from __future__ import annotations

import ssl

# TLS 1.2; the order is OpenSSL's preference where the file gives none.
TLS12_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
# Every TLS 1.3 connection may use these. As in Go, it has no effect to name them.
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CIPHERS = (*TLS12_CIPHERS, *TLS13_CIPHERS)
# Go's default without CBC: only forward secrecy and authenticated encryption.
DEFAULT_CIPHERS = tuple(name for name in TLS12_CIPHERS if not name.endswith("_CBC_SHA"))

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

# OpenSSL speaks 1.0 and 1.1 only at a security level that also accepts weak keys and signatures.
VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1_2,
    "TLS11": ssl.TLSVersion.TLSv1_2,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
TOO_OLD = ("TLS10", "TLS11")

NO_CLIENT_CERT = "NoClientCert"
CLIENT_AUTH_TYPES = (NO_CLIENT_CERT, "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
# Types that ask for a certificate and do not verify it, which Python's ssl cannot do. The last is the name of
# RequireAnyClientCert in early versions of the toolkit.
UNVERIFIED_TYPES = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
