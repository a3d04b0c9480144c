/*
 * Stands for libraries that the programs of ZFS are linked with for what no test
 * does: keys of passphrases, and Kerberos. Most of the time that one of the
 * programs takes to start in the lab is for these.
 */
#define UNUSED(name) void name(void) { __builtin_trap(); }

UNUSED(PKCS5_PBKDF2_HMAC_SHA1)

UNUSED(gss_accept_sec_context)
UNUSED(gss_acquire_cred)
UNUSED(gss_canonicalize_name)
UNUSED(gss_delete_sec_context)
UNUSED(gss_display_name)
UNUSED(gss_display_status)
UNUSED(gss_duplicate_name)
UNUSED(gss_export_name)
UNUSED(gss_get_mic)
UNUSED(gss_import_name)
UNUSED(gss_init_sec_context)
UNUSED(gss_pname_to_uid)
UNUSED(gss_release_buffer)
UNUSED(gss_release_cred)
UNUSED(gss_release_name)
UNUSED(gss_sign)
UNUSED(gss_unwrap)
UNUSED(gss_verify_mic)
UNUSED(gss_wrap)
UNUSED(gss_wrap_size_limit)
void *GSS_C_NT_HOSTBASED_SERVICE, *GSS_C_NT_USER_NAME;
