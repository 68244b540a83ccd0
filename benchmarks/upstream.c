/* An engine that costs next to nothing: answers POST with a chat completion, or with 64 events, one a millisecond. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MOST 4096
#define EVENTS 64
static char input[MOST][16384];
static int filled[MOST], left[MOST];
static char whole[2048], models[512], head[512], event[512], last[1024];
static int whole_n, models_n, head_n, event_n, last_n;

static void say(int fd, const char *text, int size) { if (write(fd, text, size) < 0) close(fd); }

static int chunk(char *to, const char *data) { return sprintf(to, "%zx\r\n%s\r\n", strlen(data), data); }

static void prepare(void) {
    const char *one = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the lazy dog.\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":10,\"total_tokens\":30}}";
    whole_n = sprintf(whole, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(one), one);
    const char *list = "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\"}]}";
    models_n = sprintf(models, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(list), list);
    head_n = sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    event_n = chunk(event, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
        "[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n");
    last_n = chunk(last, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
        "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
        "\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":64,\"total_tokens\":84}}\n\n"
        "data: [DONE]\n\n");
    last_n += sprintf(last + last_n, "0\r\n\r\n");
}

static void take(int fd) {
    int got = read(fd, input[fd] + filled[fd], sizeof input[fd] - filled[fd] - 1);
    if (got <= 0) { close(fd); left[fd] = filled[fd] = 0; return; }
    filled[fd] += got;
    input[fd][filled[fd]] = 0;
    char *end = strstr(input[fd], "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(input[fd], "content-length:");
    int body = length && length < end ? atoi(length + 15) : 0;
    if (filled[fd] < end + 4 - input[fd] + body) return;
    if (input[fd][0] == 'G') say(fd, models, models_n);
    else if (strstr(end, "\"stream\":true")) { say(fd, head, head_n); left[fd] = EVENTS; }
    else say(fd, whole, whole_n);
    filled[fd] = 0;
}

static void tick(int top) {
    for (int fd = 0; fd <= top; fd++)
        if (left[fd] > 0) {
            say(fd, event, event_n);
            if (--left[fd] == 0) say(fd, last, last_n);
        }
}

int main(void) {
    prepare();
    int server = socket(AF_INET, SOCK_STREAM, 0), yes = 1, top = 0;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    bind(server, (struct sockaddr *)&at, size);
    listen(server, 1024);
    getsockname(server, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    timerfd_settime(timer, 0, &every, NULL);
    struct epoll_event want = {.events = EPOLLIN, .data.fd = server}, found[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, server, &want);
    want.data.fd = timer;
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &want);
    for (;;) {
        int many = epoll_wait(poll, found, 256, -1);
        for (int i = 0; i < many; i++) {
            int fd = found[i].data.fd;
            if (fd == server) {
                int client = accept(server, NULL, NULL);
                if (client < 0 || client >= MOST) { if (client >= 0) close(client); continue; }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                if (client > top) top = client;
                want.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &want);
            } else if (fd == timer) {
                unsigned long long over;
                if (read(timer, &over, 8) == 8) tick(top);
            } else take(fd);
        }
    }
}
