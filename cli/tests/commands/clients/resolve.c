// Resolves each name that it is given by the C library that it is linked with: what that finds, in its order.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

static void print(const struct sockaddr *found) {
    char text[INET6_ADDRSTRLEN];
    const void *address = found->sa_family == AF_INET6
        ? (const void *)&((const struct sockaddr_in6 *)found)->sin6_addr
        : (const void *)&((const struct sockaddr_in *)found)->sin_addr;
    printf(" %s", inet_ntop(found->sa_family, address, text, sizeof text));
}

int main(int count, char **names) {
    for (int at = 1; at < count; at++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        int error = getaddrinfo(names[at], NULL, &hints, &found);
        if (error != 0 && error != EAI_NONAME) {
            fprintf(stderr, "%s: %s\n", names[at], gai_strerror(error));
            return 1;
        }
        printf("%s:%s", names[at], error == EAI_NONAME ? " none" : "");
        for (struct addrinfo *each = found; each != NULL; each = each->ai_next) print(each->ai_addr);
        printf("\n");
    }
    return 0;
}
