package lint

// Rule is something that is looked at.
type Rule struct {
	Name string
	// Of is what files it is about; Asks is the question.
	Of, Asks string
	// Guide is where the guides advise it; empty for what they leave out.
	Guide string
}

// Rules are all of them.
func Rules() []Rule {
	return []Rule{
		{"user", "Dockerfile, Compose, Kubernetes", "Windows: does the application run as Network Service or Local System?", "4:41"},
		{"user-version", "Dockerfile, Compose, Kubernetes", "Windows: is the image of 1709 or later, where a container runs as Network Service?", "4:36"},
		{"user-quotes", "Dockerfile", "Windows: is the user in quotes, where the backslash would be taken for an escape?", "4:41"},
		{"app-pool", "Dockerfile", "Windows: does the application pool of IIS run as Network Service or Local System?", "4:21"},
		{"app-pool-shell", "Dockerfile", "Windows: is appcmd.exe named in a way that PowerShell understands?", "4:21"},
		{"service-account", "Dockerfile", "Windows: does the service run as Network Service or Local System?", "4:31"},
		{"service-shell", "Dockerfile", "Windows: is it sc.exe in PowerShell, where sc is Set-Content?", "4:31"},
		{"service-spelling", "Dockerfile", "Windows: has obj= a space behind it?", "4:31"},
		{"static-credentials", "Dockerfile, Service Fabric", "Are there a user and a password which the gMSA takes the place of?", "4:24"},
		{"kerberos-environment", "Dockerfile, Compose, Kubernetes", "Linux: are KRB5_CONFIG, KRB5CCNAME, KRB5_KTNAME and KRB5_CLIENT_KTNAME left to the lease?", ""},
		{"krb5.conf", "Dockerfile", "Linux: is /etc/krb5.conf left to the lease?", ""},
		{"keytab", "Dockerfile", "Linux: is there no keytab in the image?", ""},
		{"kinit", "Dockerfile", "Linux: does the container start without kinit?", ""},
		{"mount", "Dockerfile, Compose, Kubernetes", "Linux: are /run/gmsa and /etc/krb5.conf free of mounts and volumes?", ""},
		{"hostname-account", "Compose, Kubernetes, Service Fabric", "Before Windows 1809: is the container's host name the account's?", "5:18"},
		{"one-container", "Compose, Kubernetes, Service Fabric", "Before Windows 1809: does one container run as the account?", "1:370"},
		{"hostname-unique", "Compose, Kubernetes, Service Fabric", "From Windows 1809 on: has each container of the account another host name, or none?", "5:32"},
		{"isolation", "Compose, Service Fabric", "Windows 1703 to 1803: is the isolation not Hyper-V's?", "5:26"},
		{"no-identity", "Compose, Kubernetes, Service Fabric", "Does anything in the file have a credential spec?", "1:305"},
		{"credential-spec-reference", "Compose, Service Fabric", "Is the credential spec named as the engine wants it?", "5:153"},
		{"alpha-annotation", "Kubernetes", "Is the credential spec named in securityContext, not by the annotations of 1.14?", "1:321"},
		{"pod-os", "Kubernetes", "Do pods with windowsOptions stay on nodes of Windows?", "1:321"},
		{"account-name", "Service Fabric", "Has the account's name its $ where the manifest wants it?", "1:305"},
		{"credential-spec", "credential spec, Kubernetes", "Is the credential spec of the right form: every field, names without $ and domain, GUIDs?", "5:73"},
		{"dockerfile", "Dockerfile", "Has the Dockerfile a FROM?", ""},
		{"yaml", "Compose, Kubernetes", "Can the file be read?", ""},
		{"xml", "Service Fabric", "Can the file be read?", ""},
	}
}
