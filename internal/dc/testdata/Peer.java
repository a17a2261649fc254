import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.security.PrivilegedExceptionAction;
import java.util.*;
import javax.naming.*;
import javax.naming.directory.*;
import javax.security.auth.Subject;
import javax.security.auth.callback.*;
import javax.security.auth.kerberos.KerberosTicket;
import javax.security.auth.login.*;
import org.ietf.jgss.*;

/** Java's own Kerberos: a logon with a password, LDAP by GSSAPI, a context to a service that has a keytab. */
public class Peer {
    static final Oid KRB5 = oid("1.2.840.113554.1.2.2");

    static Oid oid(String s) {
        try {
            return new Oid(s);
        } catch (GSSException e) {
            throw new IllegalArgumentException(e);
        }
    }

    static Subject login(Map<String, String> options, String name, String password) throws LoginException {
        var entry = new AppConfigurationEntry("com.sun.security.auth.module.Krb5LoginModule",
                AppConfigurationEntry.LoginModuleControlFlag.REQUIRED, options);
        var configuration = new Configuration() {
            @Override public AppConfigurationEntry[] getAppConfigurationEntry(String any) {
                return new AppConfigurationEntry[] {entry};
            }
        };
        CallbackHandler answers = callbacks -> {
            for (Callback c : callbacks) {
                if (c instanceof NameCallback n) n.setName(name);
                if (c instanceof PasswordCallback p) p.setPassword(password.toCharArray());
            }
        };
        var context = new LoginContext("peer", new Subject(), answers, configuration);
        context.login();
        return context.getSubject();
    }

    static void search() throws NamingException {
        var env = new Hashtable<String, String>();
        env.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
        env.put(Context.PROVIDER_URL, "ldap://dc1.contoso.com");
        env.put(Context.SECURITY_AUTHENTICATION, "GSSAPI");
        env.put("javax.security.sasl.qop", "auth-conf");
        var directory = new InitialDirContext(env);
        var controls = new SearchControls();
        controls.setSearchScope(SearchControls.SUBTREE_SCOPE);
        var found = directory.search("DC=contoso,DC=com", "(sAMAccountName=alice)", controls);
        while (found.hasMore()) {
            System.out.println("found " + found.next().getNameInNamespace());
        }
        directory.close();
    }

    /** One message each way over a socket, between a client and a service of this process. */
    static void meet(Subject client, Subject service, String spn) throws Exception {
        var manager = GSSManager.getInstance();
        var initiator = Subject.doAs(client, (PrivilegedExceptionAction<GSSContext>) () -> {
            var c = manager.createContext(manager.createName(spn, null), KRB5, null, GSSContext.DEFAULT_LIFETIME);
            c.requestMutualAuth(true);
            return c;
        });
        var acceptor = Subject.doAs(service, (PrivilegedExceptionAction<GSSContext>) () ->
                manager.createContext(manager.createCredential(null, GSSCredential.INDEFINITE_LIFETIME, KRB5, GSSCredential.ACCEPT_ONLY)));
        byte[] request = Subject.doAs(client, (PrivilegedExceptionAction<byte[]>) () -> initiator.initSecContext(new byte[0], 0, 0));
        byte[] reply = Subject.doAs(service, (PrivilegedExceptionAction<byte[]>) () -> acceptor.acceptSecContext(request, 0, request.length));
        initiator.initSecContext(reply, 0, reply.length);
        byte[] sealed = initiator.wrap("hello".getBytes(StandardCharsets.UTF_8), 0, 5, new MessageProp(true));
        byte[] opened = acceptor.unwrap(sealed, 0, sealed.length, new MessageProp(true));
        System.out.println("accepted " + acceptor.getSrcName() + " at " + acceptor.getTargName() + ": " + new String(opened, StandardCharsets.UTF_8));
    }

    public static void main(String[] args) throws Exception {
        var alice = login(Map.of(), "alice", args[0]);
        for (var t : alice.getPrivateCredentials(KerberosTicket.class)) {
            System.out.println("ticket " + t.getServer() + " for " + t.getClient());
        }
        Subject.doAs(alice, (PrivilegedExceptionAction<Void>) () -> {
            search();
            return null;
        });
        var service = login(Map.of("useKeyTab", "true", "keyTab", args[1], "storeKey", "true", "isInitiator", "false",
                "principal", args[2]), "", "");
        meet(alice, service, args[2]);
        try {
            login(Map.of(), "alice", "wrong");
        } catch (LoginException e) {
            System.out.println("refused: " + e.getMessage());
        }
    }
}
